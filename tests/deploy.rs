//! Guards against files for clusters and dashboards that look right and do not run: a field that Kubernetes does not have,
//! a pod whose user may not write to its volume, a stop that is killed, a query that reads the whole file.
//!
//! The manifests of docs/deploy are checked against the schemas of Kubernetes, and their containers are run with Docker
//! by what the files say; `tests/sidecar.rs` does so for the pod with the sidecar and for Compose.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use crate::support::client::python_with;
use crate::support::docker::{IMAGE, can_run};
use crate::support::http::{Connection, get, write_to};
use crate::support::manifest::{Pod, deployed, values};
use crate::support::stop::assert_stopped;
use crate::support::*;

const MANIFESTS: [&str; 2] = ["kubernetes.yaml", "kubernetes-sidecar.yaml"];
/// The first that has sidecars and volumes for one pod alone, and the newest that the validator knows.
const KUBERNETES: [&str; 2] = ["1.29", "1.37"];

/// The files that the schemas of a version do not take, by name and version.
const VALIDATE: &str = "
import os, sys, kubernetes_validate, yaml
versions, files = sys.argv[1].split(), sys.argv[2:]
for file in files:
    for version in versions:
        try:
            for resource in yaml.safe_load_all(open(file)):
                kubernetes_validate.validate(resource, version, strict=True)
        except kubernetes_validate.ValidationError:
            print(os.path.basename(file), version)
";

#[test]
fn the_manifests_are_what_kubernetes_takes() {
    let Some(python) = python_with("kubernetes_validate") else {
        return;
    };
    let dir = Dir::new("manifests");
    let mut files = MANIFESTS.map(deployed).to_vec();
    let mut expected = Vec::new();
    // The schemas find what is wrong.
    for (n, (right, wrong)) in [
        ("readOnlyRootFilesystem", "readOnlyRootFileSystem"),
        ("periodSeconds: 10", "periodSeconds: 10s"),
        ("selector:", "selectors:"),
    ]
    .into_iter()
    .enumerate()
    {
        let manifest = fs::read_to_string(&files[0]).unwrap();
        assert!(manifest.contains(right), "{right}");
        let file = dir.file(&format!("wrong-{n}"));
        fs::write(&file, manifest.replace(right, wrong)).unwrap();
        files.push(file);
        expected.extend(KUBERNETES.map(|version| format!("wrong-{n} {version}\n")));
    }
    let mut command = Command::new(python);
    command.args(["-c", VALIDATE, &KUBERNETES.join(" ")]);
    let output = command.args(files).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected.concat());
}

fn seconds(text: &str) -> u64 {
    text.trim_end_matches('s').parse().unwrap()
}

#[test]
fn a_pod_leaves_seawall_the_time_to_stop_and_no_variable_that_is_not_its_own() {
    let table = seawall::cli::table().unwrap();
    let options = table.iter().flat_map(|(_, rows)| rows);
    let options: BTreeMap<&str, &str> = options
        .map(|row| (&row.variable[..], row.default))
        .collect();
    for name in MANIFESTS {
        let Some(values) = values(&deployed(name)) else {
            return;
        };
        let all = |end: &str| {
            let found: Vec<&String> = values
                .iter()
                .filter(|(path, _)| path.ends_with(end))
                .map(|(_, value)| value)
                .collect();
            assert!(!found.is_empty(), "{name} has no {end}");
            found
        };
        let grace = seconds(all(".terminationGracePeriodSeconds")[0]);
        assert!(
            grace > seconds(options["SEAWALL_STOP_TIMEOUT"]),
            "{name}: {grace}"
        );
        // Kubernetes gives a probe that takes longer up, and the commands of seawall wait that long for a lock.
        let busy = seconds(options["SEAWALL_BUSY_TIMEOUT"]);
        assert!(
            all(".timeoutSeconds").iter().all(|s| seconds(s) > busy),
            "{name}"
        );
        assert_eq!(all(".enableServiceLinks"), ["false"], "{name}");
        for (path, variable) in values
            .iter()
            .filter(|(path, _)| path.contains(".env.") && path.ends_with(".name"))
        {
            assert!(
                options.contains_key(&variable[..]),
                "{name}: {path} is {variable}"
            );
        }
    }
}

#[test]
fn the_pod_records_as_its_user_and_stops_within_its_grace() {
    if !can_run() {
        return;
    }
    let Some(pod) = Pod::new("kubernetes.yaml") else {
        return;
    };
    const SEAWALL: &str = "containers.0";
    // As a Secret is laid there.
    let secret = pod.dir.file("token/token");
    fs::write(&secret, "s3cret").unwrap();
    let mode = pod.get("volumes.0.secret.defaultMode").parse().unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
    let group = pod.get("securityContext.fsGroup").parse().unwrap();
    chown(&secret, Some(0), Some(group)).unwrap();

    let port = pod.get("containers.0.ports.0.containerPort").to_owned();
    let running = pod.run(SEAWALL, IMAGE, &["-p", &format!("127.0.0.1::{port}")]);
    for probe in ["startupProbe", "readinessProbe"] {
        until(&format!("{probe} succeeds: {:?}", running.output()), || {
            pod.probe(SEAWALL, probe, &running).ok()
        });
    }
    let published = running.docker("port");
    let published = published.rsplit_once(':').unwrap().1.parse().unwrap();
    let mut client = Connection::to(published);
    let alive = pod.get("containers.0.livenessProbe.httpGet.path");
    assert_eq!(client.send(get(alive)).status(), Some(200));
    let with = "Authorization: Token s3cret\r\n";
    assert_eq!(
        client.send(write_to("/write", with, "m v=1")).status(),
        Some(204)
    );
    assert_eq!(
        client.send(write_to("/write", "", "m v=2")).status(),
        Some(401)
    );
    let (_, log) = running.output();
    for event in ["unknown-variable", "not-lasting", "open-to-all"] {
        assert!(!log.iter().any(|line| line.contains(event)), "{log:#?}");
    }
    pod.stop(&running);
    let db = pod.dir.file("data/sensor_data.db");
    let last = assert_stopped(&db, &running.ended(), 0, "SIGTERM");
    assert_eq!(last.committed, 1);
}
