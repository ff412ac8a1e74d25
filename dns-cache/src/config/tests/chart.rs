//! What the Helm chart's schema says of `config` is what holds here: a value that it lets through must not end the agents.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::*;

/// The chart's schema of `config`: its sections with their keys, and what it says of each value.
#[derive(Default)]
struct Chart {
    sections: BTreeMap<String, BTreeSet<String>>,
    values: Vec<(String, Value)>,
}

impl Chart {
    fn read() -> Self {
        let path = "../deploy/helm/dns-cache/values.schema.json";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let root = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let mut chart = Self::default();
        chart.walk(&root, &root["properties"]["config"], String::new());
        chart
    }

    fn walk(&mut self, root: &Value, node: &Value, path: String) {
        let node = match node["$ref"].as_str() {
            Some(name) => root.pointer(&name[1..]).unwrap(),
            None => node,
        };
        if node["items"]["properties"].is_object() {
            return self.walk(root, &node["items"], path);
        }
        let Some(keys) = node["properties"].as_object() else {
            return self.values.push((path, node.clone()));
        };
        assert_eq!(node["additionalProperties"], false, "{path}");
        for (key, below) in keys {
            let path = format!("{path}.{key}");
            self.walk(root, below, path.trim_start_matches('.').to_owned());
        }
        self.sections.insert(path, keys.keys().cloned().collect());
    }
}

/// Whether a file is taken that says so, and all that goes with it.
fn takes(path: &str, value: Value) -> bool {
    let mut file = json!({
        "listen": ["169.254.20.10"],
        "cluster": {"upstreams": ["10.244.0.2"], "ttl": {"positive": 86_400}},
        "fallback": [{"address": "169.254.20.10", "to": "10.96.0.10"}],
        "zones": [{"zone": "corp.example", "upstreams": ["192.0.2.53"], "ttl": {"positive": 86_400}}],
        "blocked": [{"zone": "ads.example"}],
        "ttl": {"positive": 86_400},
    });
    let mut place = &mut file;
    for key in path.split('.') {
        let section = match place {
            Value::Array(elements) => &mut elements[0],
            section => section,
        };
        let keys = section.as_object_mut().unwrap();
        place = keys.entry(key).or_insert_with(|| Map::new().into());
    }
    *place = value;
    parse(&file.to_string(), Path::new("f")).is_ok()
}

#[test]
fn the_chart_knows_every_key() {
    let own = schema::SECTIONS.map(|(path, keys)| {
        let keys = keys.iter().map(|&key| key.to_owned());
        (path.to_owned(), keys.collect())
    });
    assert_eq!(Chart::read().sections, BTreeMap::from(own));
}

#[test]
fn the_chart_knows_every_word_and_every_bound() {
    let mut checked = 0;
    for (path, schema) in Chart::read().values {
        let alternatives = schema["anyOf"].as_array().cloned();
        for schema in alternatives.unwrap_or_else(|| vec![schema]) {
            let taken: Vec<Value>;
            let refused: Vec<Value>;
            if let Some(words) = schema["enum"].as_array() {
                taken = words.clone();
                refused = vec![json!("something")];
            } else if schema["type"] == "boolean" {
                taken = vec![json!(true), json!(false)];
                refused = vec![json!("something")];
            } else if schema["type"] == "integer" {
                let bound = |name: &str| schema[name].as_i64().unwrap();
                let (least, most) = (bound("minimum"), bound("maximum"));
                taken = vec![json!(least), json!(most)];
                refused = vec![json!(least - 1), json!(most + 1)];
            } else {
                continue;
            }
            for (values, is_taken) in [(taken, true), (refused, false)] {
                for value in values {
                    assert_eq!(takes(&path, value.clone()), is_taken, "{path}: {value}");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 100, "{checked}");
}
