//! How much memory the process may have, by its control group (`memory.max`, or `memory.limit_in_bytes` of version 1).

use std::fs;
use std::path::Path;

use tracing::warn;

use crate::config::CacheLimits;

const CGROUPS: &str = "/sys/fs/cgroup";
/// What the agent and its programs have without a cache: 12 MiB, measured in a container, and what comes in bursts.
const BASE: u64 = 16 << 20;
/// Of the rest the cache may have one part in so many: under a storm of new names the allocator holds 1.7 times what an
/// entry counts for.
const SHARE: u64 = 2;
/// The least cache that a configuration can ask for.
const LEAST: u64 = 1 << 20;
/// Version 1 says "no limit" as a number that no machine has.
const NO_LIMIT: u64 = 1 << 60;

/// Makes the cache fit into the memory that there is, and says so.
pub fn fit(cache: &mut CacheLimits) {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    fit_into(cache, limit(Path::new(CGROUPS), &groups));
}

fn fit_into(cache: &mut CacheLimits, limit: Option<u64>) {
    let Some(limit) = limit else { return };
    let most = (limit.saturating_sub(BASE) / SHARE).max(LEAST);
    if cache.max_bytes > most {
        warn!(
            max_bytes = cache.max_bytes,
            memory_limit = limit,
            used = most,
            "cache.maxBytes is more than fits below the memory limit (half of what it leaves beyond 16Mi): that is used; raise the memory limit or lower cache.maxBytes"
        );
        cache.max_bytes = most;
    }
}

/// The lowest limit of the groups of `/proc/self/cgroup`, and of those above them. A container often sees the table of
/// the node, and its own group as the root.
fn limit(root: &Path, groups: &str) -> Option<u64> {
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join(controllers), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            let text = fs::read_to_string(root.join(group).join(file)).ok();
            limits.extend(text.and_then(|text| text.trim().parse::<u64>().ok()));
        }
    }
    limits.into_iter().filter(|limit| *limit < NO_LIMIT).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn the_lowest_limit_of_both_versions() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let limit = |groups: &str| limit(dir.path(), groups);
        write("memory.max", "max\n");
        assert_eq!(limit("0::/\n"), None);
        write("a/memory.max", "1000000\n");
        write("a/b/memory.max", "max\n");
        assert_eq!(limit("0::/a/b\n"), Some(1_000_000));
        // Of a container that sees the node's paths and its own group as the root.
        write("memory/memory.limit_in_bytes", "300\n");
        assert_eq!(limit("4:memory:/kubepods/pod1\n0::/\n"), Some(300));
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit("4:memory:/kubepods/pod1\n3:cpu:/\nnonsense\n"), None);
    }

    #[test]
    fn half_of_what_the_agent_leaves_is_the_caches() {
        let config = parse(
            "listen: 10.96.0.10\ncluster: {upstreams: 10.0.0.1}\n",
            "f".as_ref(),
        );
        let mut cache = config.unwrap().cache;
        let given = cache.max_bytes;
        for (limit, expected) in [
            (None, given),
            (Some(2 * given + BASE), given),
            (Some(2 * given), given - BASE / 2),
            (Some(given), (given - BASE) / 2),
            (Some(BASE), LEAST),
            (Some(1 << 10), LEAST),
        ] {
            cache.max_bytes = given;
            fit_into(&mut cache, limit);
            assert_eq!(cache.max_bytes, expected, "{limit:?}");
        }
    }
}
