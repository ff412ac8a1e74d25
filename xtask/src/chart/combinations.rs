//! Combinations of values, and what is rendered of each.

/// By `--set`, and what must stand in what is rendered.
type Combination = (&'static [&'static str], &'static [&'static str]);

/// The documented combinations of values. The examples in deploy/README.md come on top.
pub(super) const COMBINATIONS: [Combination; 23] = [
    (
        &[],
        &[
            "hostNetwork: true",
            "readOnlyRootFilesystem: true",
            "interceptService: true",
            "resources: [endpointslices]",
            "kind: ClusterRole\n",
            "resources: [nodes]\n    verbs: [get]\n",
            "fieldPath: spec.nodeName",
        ],
    ),
    (
        &["mode=link-local"],
        &[
            "    listen:\n    - 169.254.20.10\n",
            "interceptService: false",
        ],
    ),
    (
        &["mode=both"],
        &[
            "    listen:\n    - 169.254.20.10\n",
            "interceptService: true",
        ],
    ),
    (
        &[
            "serviceMonitor.enabled=true",
            "alerts.enabled=true",
            "dashboard.enabled=true",
        ],
        &[
            "kind: ServiceMonitor",
            "kind: Service\n",
            "kind: PrometheusRule",
            "grafana_dashboard",
        ],
    ),
    (
        &["podMonitor.enabled=true", "metrics.port=9999"],
        &[
            "kind: PodMonitor",
            "listen: '[::]:9999'",
            "replacement: $1:9999",
            "replacement: \"[$1]:9999\"",
            "- sourceLabels: [__meta_kubernetes_pod_container_name]\n          regex: agent\n          action: keep\n",
        ],
    ),
    (
        &["exclude={payments,default/db-0}"],
        &[
            "    exclude:\n    - payments\n    - default/db-0\n",
            "path: /var/lib/cni/results",
        ],
    ),
    (
        &["metrics.perPod=true"],
        &["perPod: true", "path: /var/lib/cni/results"],
    ),
    (
        &["podDisruptionBudget.enabled=true"],
        &["kind: PodDisruptionBudget"],
    ),
    (
        &[
            "service.name=coredns",
            "service.namespace=dns",
            "rbac.nodes=false",
        ],
        &[
            "service: coredns",
            "name: dns-cache-endpoints\n  namespace: dns\n",
        ],
    ),
    (
        &["mode=both", "importNodeLocalDNS=true", "metrics.port=9453"],
        &[
            "args: [import-corefile, --kube-dns, /etc/kube-dns, --over,",
            "name: node-local-dns",
            "name: kube-dns\n            optional: true",
            "checksum/config: ",
        ],
    ),
    (
        &["cache.maxEntries=20000", "cache.maxBytes=128Mi"],
        &["    cache:\n      maxBytes: 128Mi\n      maxEntries: 20000\n"],
    ),
    (
        &["mode=both", "host.enabled=true"],
        &["cgroup: /host/cgroup", "path: /sys/fs/cgroup\n"],
    ),
    (
        &["config.cluster.ttl.positive=60"],
        &["positive: 60", "domain: cluster.local"],
    ),
    (
        &[
            "updateStrategy.rollingUpdate.maxSurge=0",
            "updateStrategy.rollingUpdate.maxUnavailable=1",
        ],
        &["maxSurge: 0\n      maxUnavailable: 1\n"],
    ),
    (
        &["image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000"],
        &["dns-cache@sha256:000"],
    ),
    (
        &[
            "config.zones[0].zone=corp.example",
            "config.zones[0].upstreams={192.0.2.53}",
        ],
        &["    zones:\n    - upstreams:\n      - 192.0.2.53\n      zone: corp.example\n"],
    ),
    (
        &["config.queries.missesPerSecond=100"],
        &["    queries:\n      missesPerSecond: 100\n"],
    ),
    (
        &["config.interfaces={veth*,!veth-infra*}"],
        &["    interfaces:\n    - veth*\n    - '!veth-infra*'\n"],
    ),
    (
        &["rbac.create=false", "serviceAccount.create=false"],
        &["serviceAccountName: default\n"],
    ),
    (
        &["image.pullSecrets={registry}"],
        &["imagePullSecrets:\n        - name: registry\n"],
    ),
    (
        &[
            "podLabels.team=dns",
            "podAnnotations.note=x",
            "env[0].name=DNS_CACHE_ATTACH",
            "env[0].value=clsact",
            "updateStrategy.type=OnDelete",
        ],
        &[
            "        team: dns\n",
            "        note: x\n",
            "            - name: DNS_CACHE_ATTACH\n",
        ],
    ),
    (
        &["nameOverride=node-dns"],
        &[
            "  name: dns-cache-node-dns\n",
            "app.kubernetes.io/name: node-dns\n",
        ],
    ),
    (
        &["fullnameOverride=node-dns"],
        &[
            "kind: DaemonSet\nmetadata:\n  name: node-dns\n",
            "            name: node-dns\n",
            "app.kubernetes.io/name: dns-cache\n",
        ],
    ),
];
