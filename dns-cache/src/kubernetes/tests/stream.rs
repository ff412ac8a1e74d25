//! Watches that go wrong, from a server that speaks HTTP over TLS: what was said in a cluster, or could be.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

use super::super::slice::Endpoint;
use super::*;
use crate::upstream::fake::{Fake, acceptor};

/// No test waits so long unless it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the server does with a request.
enum Say {
    /// A whole answer.
    Answer(u16, Value),
    /// A watch with these bytes, and how it ends.
    Stream(Vec<u8>, End),
}

#[derive(Clone, Copy)]
enum End {
    /// In good order.
    Proper,
    /// In the middle of the response.
    Cut,
    /// Never.
    Silent,
}

/// A request as the server saw it.
#[derive(Debug, Clone)]
struct Seen {
    target: String,
    token: String,
}

struct Api {
    fake: Fake,
    seen: Arc<Mutex<Vec<Seen>>>,
    token: NamedTempFile,
}

impl Api {
    /// A server that answers its nth request by the script's nth part, and lets watches beyond it wait.
    async fn start(script: Vec<Say>) -> Self {
        Self::start_with_node(Vec::new(), script).await
    }

    /// The same, with a script of their own for requests for Nodes.
    async fn start_with_node(node: Vec<Say>, script: Vec<Say>) -> Self {
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let scripts = [script, node].map(|script| Arc::new(Mutex::new(script.into_iter())));
        let noted = Arc::clone(&seen);
        let fake = Fake::start(move |stream, _| {
            let (noted, scripts) = (Arc::clone(&noted), scripts.clone());
            async move {
                let Ok(stream) = acceptor().accept(stream).await else {
                    return;
                };
                let mut stream = BufReader::new(stream);
                let (mut head, mut line) = (Vec::new(), String::new());
                while stream
                    .read_line(&mut line)
                    .await
                    .is_ok_and(|_| line != "\r\n")
                {
                    head.push(std::mem::take(&mut line));
                }
                let token = head
                    .iter()
                    .find_map(|line| line.strip_prefix("authorization: Bearer "));
                let target = head[0].split(' ').nth(1).unwrap();
                let script = &scripts[usize::from(target.starts_with("/api/v1/nodes/"))];
                let next = script.lock().unwrap().next();
                noted.lock().unwrap().push(Seen {
                    target: target.to_owned(),
                    token: token.unwrap_or_default().trim().to_owned(),
                });
                let waiting = Say::Stream(Vec::new(), End::Silent);
                say(&mut stream, &next.unwrap_or(waiting)).await;
            }
        })
        .await;
        let token = NamedTempFile::new().unwrap();
        fs::write(token.path(), "first\n").unwrap();
        Self { fake, seen, token }
    }

    /// What a watch tells: the addresses of all endpoints, or that there is no list.
    fn watch(&self) -> Told {
        let (sender, told) = mpsc::unbounded_channel();
        let client = self.client();
        let task = tokio::spawn(async move {
            let health = Health::new();
            let watch = Watch {
                client: &client,
                path: "/slices?x=y".to_owned(),
                timings: Timings {
                    watch: Duration::from_secs(7),
                    silence: Duration::from_millis(500),
                    pause: Duration::from_millis(2),
                    longest_pause: Duration::from_millis(20),
                },
                health: &health,
            };
            let address = |endpoint: &Endpoint| endpoint.addresses[0].clone();
            let tell = |slices: Option<&Slices>| {
                let all = |slices: &Slices| {
                    let endpoints = slices.values().flat_map(|slice| slice.endpoints());
                    endpoints.map(address).collect::<Vec<_>>()
                };
                let _ = sender.send(slices.map(all));
            };
            watch.run(tell).await;
        });
        Told {
            told,
            _task: AbortOnDrop(task),
        }
    }

    fn client(&self) -> Client {
        Client::new(&settings(self.fake.address, self.token.path()))
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until so many requests have come, and returns where they went.
    async fn targets(&self, count: usize) -> Vec<String> {
        timeout(PATIENCE, async {
            while self.seen().len() < count {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{:?}", self.seen()));
        self.seen().into_iter().map(|seen| seen.target).collect()
    }
}

struct Told {
    told: mpsc::UnboundedReceiver<Option<Vec<String>>>,
    _task: AbortOnDrop,
}

impl Told {
    async fn next(&mut self) -> Option<Vec<String>> {
        timeout(PATIENCE, self.told.recv()).await.unwrap().unwrap()
    }

    async fn expect(&mut self, addresses: &[&str]) {
        assert_eq!(self.next().await.unwrap(), addresses);
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn say(stream: &mut (impl AsyncWriteExt + Unpin), say: &Say) {
    match say {
        Say::Answer(code, value) => {
            let body = value.to_string();
            let head = format!(
                "HTTP/1.1 {code} X\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all((head + &body).as_bytes()).await;
            let _ = stream.flush().await;
        }
        Say::Stream(bytes, end) => {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            let mut out = head.as_bytes().to_vec();
            // Small chunks: an object comes in several.
            for chunk in bytes.chunks(100) {
                out.extend(format!("{:x}\r\n", chunk.len()).bytes());
                out.extend(chunk);
                out.extend(b"\r\n");
            }
            let _ = stream.write_all(&out).await;
            let _ = stream.flush().await;
            match end {
                End::Proper => {
                    let _ = stream.write_all(b"0\r\n\r\n").await;
                    let _ = stream.flush().await;
                }
                End::Cut => {}
                End::Silent => std::future::pending().await,
            }
        }
    }
}

fn list(version: u64, slices: &[Value]) -> Say {
    let list = json!({
        "kind": "EndpointSliceList",
        "metadata": {"resourceVersion": version.to_string()},
        "items": slices,
    });
    Say::Answer(200, list)
}

fn event(kind: &str, object: Value) -> Vec<u8> {
    format!("{}\n", json!({"type": kind, "object": object})).into_bytes()
}

fn bookmark(version: u64) -> Vec<u8> {
    let metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
    event(
        "BOOKMARK",
        json!({"kind": "EndpointSlice", "metadata": metadata, "endpoints": null, "ports": null}),
    )
}

fn expired() -> Value {
    json!({"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410,
           "message": "too old resource version: 10 (99)"})
}

const LIST: &str = "/slices?x=y&resourceVersion=";
const WATCH: &str =
    "/slices?x=y&watch=true&allowWatchBookmarks=true&timeoutSeconds=7&resourceVersion=";

#[tokio::test]
async fn events_are_followed_and_the_token_is_read_again() {
    let events = [
        event("ADDED", slice("b", 11, &[ready("10.0.0.2")])),
        event("MODIFIED", slice("a", 12, &[ready("10.0.0.3")])),
        event("DELETED", slice("b", 13, &[])),
        event("NEWER", json!({"metadata": {"resourceVersion": "14"}})),
    ];
    let api = Api::start(vec![
        list(10, &[slice("a", 9, &[ready("10.0.0.1")])]),
        Say::Stream(events.concat(), End::Silent),
    ])
    .await;
    let mut told = api.watch();
    told.expect(&["10.0.0.1"]).await;
    fs::write(api.token.path(), "second").unwrap();
    told.expect(&["10.0.0.1", "10.0.0.2"]).await;
    told.expect(&["10.0.0.3", "10.0.0.2"]).await;
    told.expect(&["10.0.0.3"]).await;
    // The server says nothing more: another watch from there on.
    let targets = api.targets(3).await;
    assert_eq!(
        targets[..3],
        [
            format!("{LIST}0"),
            format!("{WATCH}10"),
            format!("{WATCH}14")
        ]
    );
    let seen = api.seen();
    assert_eq!((&*seen[0].token, &*seen[2].token), ("first", "second"));
}

#[tokio::test]
async fn a_bookmark_is_where_the_next_watch_begins() {
    let api = Api::start(vec![
        list(10, &[]),
        Say::Stream(bookmark(50), End::Proper),
        Say::Stream(
            event("ADDED", slice("a", 51, &[ready("10.0.0.1")])),
            End::Silent,
        ),
    ])
    .await;
    let mut told = api.watch();
    told.expect(&[]).await;
    told.expect(&["10.0.0.1"]).await;
    assert_eq!(api.targets(3).await[2], format!("{WATCH}50"));
}

/// Both ways in which the server says it: at once, and in a watch that began well.
#[tokio::test]
async fn what_is_forgotten_is_listed_anew() {
    let api = Api::start(vec![
        list(10, &[slice("a", 9, &[ready("10.0.0.1")])]),
        Say::Answer(410, expired()),
        list(99, &[slice("a", 98, &[ready("10.0.0.2")])]),
        Say::Stream(event("ERROR", expired()), End::Proper),
        list(199, &[slice("b", 198, &[ready("10.0.0.3")])]),
    ])
    .await;
    let mut told = api.watch();
    told.expect(&["10.0.0.1"]).await;
    told.expect(&["10.0.0.2"]).await;
    told.expect(&["10.0.0.3"]).await;
    let targets = api.targets(6).await;
    // Not from a cache that may be older than what was seen.
    assert_eq!(
        (&targets[2], &targets[4]),
        (&LIST.to_owned(), &LIST.to_owned())
    );
    assert_eq!(targets[5], format!("{WATCH}199"));
}

#[tokio::test]
async fn a_connection_cut_in_an_object_loses_nothing() {
    let whole = event("MODIFIED", slice("a", 11, &[ready("10.0.0.2")]));
    let half = event("MODIFIED", slice("a", 12, &[ready("10.0.0.3")]));
    for end in [End::Cut, End::Proper, End::Silent] {
        let bytes = [&whole[..], &half[..half.len() / 2]].concat();
        let api = Api::start(vec![
            list(10, &[slice("a", 9, &[ready("10.0.0.1")])]),
            Say::Stream(bytes, end),
            Say::Stream(half.clone(), End::Silent),
        ])
        .await;
        let mut told = api.watch();
        for address in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
            told.expect(&[address]).await;
        }
        assert_eq!(api.targets(3).await[2], format!("{WATCH}11"));
    }
}

#[tokio::test]
async fn refusals_and_nonsense_are_survived() {
    let forbidden = json!({"kind": "Status", "code": 403, "message": "no right to list"});
    let api = Api::start(vec![
        Say::Answer(403, forbidden),
        Say::Answer(200, json!(["no list"])),
        Say::Answer(500, json!("no status")),
        list(10, &[slice("a", 9, &[ready("10.0.0.1")])]),
        Say::Answer(500, json!(null)),
        Say::Stream(
            event("ADDED", slice("b", 11, &[ready("10.0.0.2")])),
            End::Silent,
        ),
    ])
    .await;
    let mut told = api.watch();
    for _ in 0..3 {
        assert_eq!(told.next().await, None);
    }
    told.expect(&["10.0.0.1"]).await;
    told.expect(&["10.0.0.1", "10.0.0.2"]).await;
}

/// An event that cannot be read, or a refusal, would come again and again from where the watch began.
#[tokio::test]
async fn what_cannot_be_read_is_listed_anew() {
    let forbidden = json!({"kind": "Status", "code": 403, "message": "no right to watch"});
    let giant = vec![b'x'; (4 << 20) + 1];
    for bad in [
        Say::Stream(b"nonsense\n".to_vec(), End::Proper),
        Say::Stream(
            b"{\"type\":\"ADDED\",\"object\":{\"endpoints\":7}}\n".to_vec(),
            End::Silent,
        ),
        Say::Stream(giant, End::Silent),
        Say::Stream(event("ERROR", forbidden.clone()), End::Proper),
        Say::Answer(403, forbidden),
        Say::Answer(400, json!({"kind": "Status", "code": 400})),
    ] {
        let api = Api::start(vec![
            list(10, &[slice("a", 9, &[ready("10.0.0.1")])]),
            bad,
            list(20, &[slice("a", 19, &[ready("10.0.0.2")])]),
        ])
        .await;
        let mut told = api.watch();
        told.expect(&["10.0.0.1"]).await;
        told.expect(&["10.0.0.2"]).await;
        let targets = api.targets(4).await;
        assert_eq!(targets[2..4], [LIST.to_owned(), format!("{WATCH}20")]);
    }
}

/// The server has too much to do: a list would be more of it.
#[tokio::test]
async fn a_throttled_watch_goes_on_where_it_was() {
    let api = Api::start(vec![
        list(10, &[]),
        Say::Answer(429, json!({"kind": "Status", "code": 429})),
        Say::Stream(
            event("ADDED", slice("a", 11, &[ready("10.0.0.1")])),
            End::Silent,
        ),
    ])
    .await;
    let mut told = api.watch();
    told.expect(&[]).await;
    told.expect(&["10.0.0.1"]).await;
    assert_eq!(api.targets(3).await[2], format!("{WATCH}10"));
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let forbidden = json!({"kind": "Status", "code": 403, "message": "no right to list"});
    let api = Api::start(vec![Say::Answer(403, forbidden)]).await;
    let said = |result: Result<Value, client::Error>| result.unwrap_err().to_string();
    let client = |address, token: &Path| Client::new(&settings(address, token));
    let good = api.client();
    assert_eq!(
        said(good.get("/x").await),
        "the API server says 403: no right to list"
    );
    let error = said(
        client(api.fake.address, "/nonexistent".as_ref())
            .get("/x")
            .await,
    );
    assert!(error.contains("give kubernetes.tokenFile"), "{error}");
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let error = said(client(nobody, api.token.path()).get("/x").await);
    assert!(
        error.starts_with("the API server at 127.0.0.1:1 cannot be reached: "),
        "{error}"
    );
}

fn node(labels: Value) -> Say {
    Say::Answer(
        200,
        json!({"kind": "Node", "metadata": {"name": "n1", "labels": labels}}),
    )
}

/// Each of them ended the search for the zone, or would have.
#[tokio::test]
async fn the_zone_is_asked_for_until_it_is_known() {
    let refusal = |code: u16| Say::Answer(code, json!({"kind": "Status", "code": code}));
    let api = Api::start_with_node(
        vec![
            refusal(503),
            refusal(500),
            refusal(429),
            refusal(403),
            node(json!({"kubernetes.io/hostname": "n1"})),
            node(json!({"topology.kubernetes.io/zone": "z1"})),
        ],
        Vec::new(),
    )
    .await;
    let client = api.client();
    let timings = Timings {
        pause: Duration::from_millis(1),
        ..Timings::default()
    };
    let (mut node, place) = OwnNode::new(&client, Some("n1".to_owned()), timings);
    timeout(PATIENCE, node.follow()).await.unwrap();
    assert_eq!(place.borrow().zone.as_deref(), Some("z1"));
    assert_eq!(api.seen().len(), 6);
}

/// A Node that cannot be read keeps nobody from the endpoints, and sorts them when it can.
#[tokio::test]
async fn endpoints_are_sorted_anew_when_the_zone_is_known() {
    let unavailable = json!({"kind": "Status", "code": 503, "message": "starting"});
    let mut near = ready("10.0.0.2");
    near["zone"] = json!("z1");
    let api = Api::start_with_node(
        vec![
            Say::Answer(503, unavailable),
            node(json!({"topology.kubernetes.io/zone": "z1"})),
        ],
        vec![list(10, &[slice("a", 9, &[ready("10.0.0.1"), near])])],
    )
    .await;
    let mut config = config("kubernetes: {}");
    config.kubernetes = Some(settings(api.fake.address, api.token.path()));
    let (discovery, mut changes) = Discovery::new(config);
    let _task = AbortOnDrop(tokio::spawn(Arc::clone(&discovery).follow_endpoints()));
    let distances = |found: &Found| -> Vec<u32> {
        found.servers.iter().map(|server| server.distance).collect()
    };
    for wanted in [[2, 2], [2, 1]] {
        let found = changes.0.wait_for(|found| distances(found) == wanted);
        timeout(PATIENCE, found).await.unwrap().unwrap();
    }
}
