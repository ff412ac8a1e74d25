//! The programs of a Kubernetes node, control plane included, and how they are called.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};

use super::node::{Node, wait};
use super::pki::DIR;
use super::settings::{Cni, DNS_IP, NODE, NODE_IP, POD_CIDR, Proxy, SERVICE_CIDR, Settings};
use crate::setup::kubernetes;

/// The kubelet's configuration on the node.
const KUBELET: &str = "/etc/kubernetes/kubelet.yaml";

/// Starts etcd and the control plane.
pub(super) fn control_plane(node: &Node, settings: &Settings) -> Result<()> {
    let family = settings.family;
    let (services, pods) = (SERVICE_CIDR.list(family), POD_CIDR.list(family));
    component(
        node,
        "etcd",
        &[
            "--data-dir=/var/lib/etcd",
            "--unsafe-no-fsync",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
        ],
    )?;
    component(
        node,
        "kube-apiserver",
        &[
            "--etcd-servers=http://127.0.0.1:2379",
            "--allow-privileged",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            &format!("--advertise-address={}", NODE_IP.0),
            &format!("--service-cluster-ip-range={services}"),
            &format!("--client-ca-file={DIR}/ca.crt"),
            &format!("--token-auth-file={DIR}/tokens.csv"),
            &format!("--tls-cert-file={DIR}/apiserver.crt"),
            &format!("--tls-private-key-file={DIR}/apiserver.key"),
            &format!("--kubelet-certificate-authority={DIR}/ca.crt"),
            &format!("--kubelet-client-certificate={DIR}/apiserver-kubelet.crt"),
            &format!("--kubelet-client-key={DIR}/apiserver-kubelet.key"),
            &format!("--service-account-key-file={DIR}/service-accounts.pub"),
            &format!("--service-account-signing-key-file={DIR}/service-accounts.key"),
        ],
    )?;
    component(
        node,
        "kube-controller-manager",
        &[
            "--leader-elect=false",
            "--use-service-account-credentials",
            "--allocate-node-cidrs",
            &format!("--kubeconfig={DIR}/controller-manager.conf"),
            &format!("--cluster-cidr={pods}"),
            &format!("--service-cluster-ip-range={services}"),
            &format!("--root-ca-file={DIR}/ca.crt"),
            &format!("--service-account-private-key-file={DIR}/service-accounts.key"),
        ],
    )?;
    let config = format!("--kubeconfig={DIR}/scheduler.conf");
    component(node, "kube-scheduler", &["--leader-elect=false", &config])
}

/// Starts containerd, with pods wired by the chosen plugin.
pub(super) fn container_runtime(node: &Node, settings: &Settings) -> Result<()> {
    let wiring = match settings.cni {
        Cni::Ptp => json!({"type": "ptp"}),
        Cni::Bridge => {
            json!({"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true})
        }
    };
    let mut wiring = wiring;
    let ranges: Vec<_> = POD_CIDR
        .of(settings.family)
        .map(|subnet| json!([{"subnet": subnet}]))
        .collect();
    let routes: Vec<_> = ["0.0.0.0/0", "::/0"]
        .into_iter()
        .take(ranges.len())
        .map(|dst| json!({"dst": dst}))
        .collect();
    wiring["ipMasq"] = json!(true);
    wiring["ipam"] =
        json!({"type": "host-local", "dataDir": "/run/cni", "ranges": ranges, "routes": routes});
    let plugins = json!([wiring, {"type": "portmap", "capabilities": {"portMappings": true}}]);
    let network = json!({"cniVersion": "0.4.0", "name": "pods", "plugins": plugins});
    node.write("/etc/cni/net.d/10-pods.conflist", &network.to_string())?;
    node.write(
        "/etc/containerd.toml",
        include_str!("files/containerd.toml"),
    )?;
    node.start(
        "containerd",
        &["containerd".into(), "--config=/etc/containerd.toml".into()],
    )?;
    wait("containerd", || node.run("ctr", &["version"]).map(|_| true))
}

/// Starts the kubelet and kube-proxy.
pub(super) fn kubelet_and_proxy(node: &Node, settings: &Settings) -> Result<()> {
    let kubelet = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": format!("{DIR}/ca.crt")}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": format!("{DIR}/kubelet-server.crt"),
        "tlsPrivateKeyFile": format!("{DIR}/kubelet-server.key"),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{NODE}"),
        "failCgroupV1": false,
        "failSwapOn": false,
        "clusterDNS": DNS_IP.of(settings.family).take(1).collect::<Vec<_>>(),
        "clusterDomain": "cluster.local",
        "resolvConf": "/etc/resolv.conf",
        "shutdownGracePeriod": "0s",
        // A developer's disk may be full enough for the kubelet to begin with evictions.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"imagefs.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%"},
    });
    node.write(KUBELET, &kubelet.to_string())?;
    component(
        node,
        "kubelet",
        &[
            &format!("--config={KUBELET}"),
            &format!("--kubeconfig={DIR}/kubelet.conf"),
            &format!("--hostname-override={NODE}"),
            &format!("--node-ip={}", NODE_IP.list(settings.family)),
        ],
    )?;
    let proxy = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": match settings.proxy { Proxy::Iptables => "iptables", Proxy::Nftables => "nftables" },
        "clusterCIDR": POD_CIDR.list(settings.family),
        "hostnameOverride": NODE,
        "clientConnection": {"kubeconfig": format!("{DIR}/proxy.conf")},
        // The table's size can be set in the machine's first network namespace only.
        "conntrack": {"maxPerCore": 0, "min": 0},
    });
    node.write(&format!("{DIR}/proxy.yaml"), &proxy.to_string())?;
    component(node, "kube-proxy", &[&format!("--config={DIR}/proxy.yaml")])
}

/// Starts the kubelet anew with these as `clusterDNS`, which pods get that are made from then on.
pub(super) fn kubelet_with_dns(node: &Node, addresses: &[&str]) -> Result<()> {
    let text = fs::read_to_string(node.path(KUBELET))?;
    let mut kubelet: Value = serde_json::from_str(&text)?;
    kubelet["clusterDNS"] = json!(addresses);
    node.write(KUBELET, &kubelet.to_string())?;
    node.stop("kubelet")?;
    node.start_again("kubelet")
}

fn component(node: &Node, name: &str, args: &[&str]) -> Result<()> {
    let mut argv = vec![kubernetes::program(name).display().to_string()];
    argv.extend(args.iter().map(|&arg| arg.to_owned()));
    node.start(name, &argv)
}
