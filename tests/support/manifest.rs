//! Files that others run by: YAML and JSON as a flat list of values by their paths, and the pods of Kubernetes, whose
//! containers are run with Docker by the settings that the file gives.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::client::python_with;
use super::docker::{Container, Volume, docker, label, new_name};
use super::stop::text;
use super::{Dir, skip};

pub fn deployed(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/deploy");
    folder.join(name)
}

/// The values of a file by their paths, as `0.spec.replicas`; the first number is that of the document. `None` where the
/// Python of `just setup` is not there.
pub fn values(file: &Path) -> Option<BTreeMap<String, String>> {
    let script = "
import json, sys, yaml
def walk(path, value):
    if isinstance(value, (dict, list)):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            walk(path + [str(key)], inner)
    else:
        print(json.dumps(['.'.join(path), value if isinstance(value, str) else json.dumps(value)])[2:-2])
walk([], list(yaml.safe_load_all(open(sys.argv[1]))))
";
    let python = python_with("yaml")?;
    let output = Command::new(python).args(["-c", script]).arg(file).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let pairs = lines.lines().map(|line| {
        let (path, value) = line.split_once(r#"", ""#).unwrap();
        (path.to_owned(), unquoted(value))
    });
    Some(pairs.collect())
}

/// JSON's escapes, as far as these files have them.
fn unquoted(text: &str) -> String {
    let text = text.replace(r"\n", "\n").replace(r#"\""#, "\"");
    text.replace(r"\\", r"\")
}

/// What Kubernetes makes of the volumes of a pod, here: folders with the group and the mode that `fsGroup` gives.
pub struct Pod {
    values: BTreeMap<String, String>,
    /// Path of the pod's own spec.
    spec: String,
    volumes: Vec<(String, String)>,
    pub dir: Dir,
    _tmpfs: Vec<Volume>,
}

impl Pod {
    /// The pod of the only StatefulSet of a manifest. `None` where it cannot be run here.
    pub fn new(file: &str) -> Option<Self> {
        let values = values(&deployed(file))?;
        let kind =
            |(path, kind): &(&String, &String)| path.ends_with(".kind") && *kind == "StatefulSet";
        let (path, _) = values.iter().find(kind).unwrap();
        let document = path.trim_end_matches(".kind");
        let mut pod = Pod {
            spec: format!("{document}.spec.template.spec"),
            volumes: Vec::new(),
            dir: Dir::new("pod"),
            _tmpfs: Vec::new(),
            values: values.clone(),
        };
        let group: u32 = pod.get("securityContext.fsGroup").parse().unwrap();
        for (path, name) in &values {
            let Some(volume) = path
                .strip_suffix(".name")
                .filter(|_| path.contains(".volumes."))
            else {
                continue;
            };
            if values.contains_key(&format!("{volume}.emptyDir.medium")) {
                let tmpfs = Volume::in_memory(&format!("o=gid={group},mode=2777"));
                pod.volumes.push((name.clone(), tmpfs.0.clone()));
                pod._tmpfs.push(tmpfs);
            } else {
                pod.own_folder(name, group)?;
            }
        }
        let claim = format!("{document}.spec.volumeClaimTemplates.0.metadata.name");
        pod.own_folder(&values[&claim].clone(), group)?;
        Some(pod)
    }

    /// A folder that is the system's, and the group's to write in.
    fn own_folder(&mut self, name: &str, group: u32) -> Option<()> {
        let folder = self.dir.file(name);
        fs::create_dir(&folder).unwrap();
        if let Err(e) = chown(&folder, Some(0), Some(group)) {
            skip(&format!("a folder cannot be given to a group: {e}"));
            return None;
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o2775)).unwrap();
        self.volumes
            .push((name.to_owned(), text(&folder).to_owned()));
        Some(())
    }

    pub fn get(&self, path: &str) -> &str {
        let path = format!("{}.{path}", self.spec);
        self.values
            .get(&path)
            .unwrap_or_else(|| panic!("no {path}"))
    }

    /// The items of a list of words, or the places in a list of other things.
    pub fn list(&self, path: &str) -> Vec<String> {
        let under = format!("{}.{path}.", self.spec);
        let mut found = Vec::new();
        for n in 0.. {
            let item = format!("{under}{n}");
            match self.values.get(&item) {
                Some(word) => found.push(word.clone()),
                None if self
                    .values
                    .keys()
                    .any(|path| path.starts_with(&format!("{item}."))) =>
                {
                    found.push(format!("{path}.{n}"));
                }
                None => break,
            }
        }
        found
    }

    /// Runs a container of the pod in the background, confined as the file says. `more`: options of Docker.
    pub fn run(&self, container: &str, image: &str, more: &[&str]) -> Container {
        let running = Container { name: new_name() };
        let of = |path: &str| self.get(&format!("{container}.{path}"));
        assert_eq!(self.get("securityContext.runAsNonRoot"), "true");
        assert_eq!(
            self.get("securityContext.seccompProfile.type"),
            "RuntimeDefault"
        );
        assert_eq!(of("securityContext.allowPrivilegeEscalation"), "false");
        assert_eq!(of("securityContext.readOnlyRootFilesystem"), "true");
        let [user, group, owner] = ["runAsUser", "runAsGroup", "fsGroup"]
            .map(|id| self.get(&format!("securityContext.{id}")));
        let mut args: Vec<String> = [
            "run",
            "-d",
            "--name",
            &running.name,
            "--label",
            &label(),
            "--read-only",
        ]
        .map(str::to_owned)
        .into();
        args.extend(
            ["--security-opt", "no-new-privileges", "--group-add", owner].map(str::to_owned),
        );
        args.extend(["--user".to_owned(), format!("{user}:{group}")]);
        let memory = of("resources.limits.memory").replace("Mi", "m");
        args.extend(["--memory".to_owned(), memory]);
        for capability in self.list(&format!("{container}.securityContext.capabilities.drop")) {
            args.extend(["--cap-drop".to_owned(), capability]);
        }
        for place in self.list(&format!("{container}.env")) {
            let pair = [".name", ".value"].map(|of| self.get(&(place.clone() + of)));
            args.extend(["-e".to_owned(), pair.join("=")]);
        }
        for place in self.list(&format!("{container}.volumeMounts")) {
            let [name, path] = [".name", ".mountPath"].map(|of| self.get(&(place.clone() + of)));
            let (_, volume) = self.volumes.iter().find(|(of, _)| of == name).unwrap();
            args.extend(["-v".to_owned(), format!("{volume}:{path}")]);
        }
        args.extend(more.iter().map(|word| (*word).to_owned()));
        args.push(image.to_owned());
        args.extend(self.list(&format!("{container}.args")));
        docker(&args.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        running
    }

    /// Runs the command of a probe in its container.
    pub fn probe(
        &self,
        container: &str,
        probe: &str,
        running: &Container,
    ) -> Result<String, String> {
        let command = self.list(&format!("{container}.{probe}.exec.command"));
        let mut args = vec!["exec", &running.name];
        args.extend(command.iter().map(String::as_str));
        docker(&args)
    }

    /// Ends a container as Kubernetes does.
    pub fn stop(&self, running: &Container) {
        let grace = self.get("terminationGracePeriodSeconds");
        running.docker(&format!("stop -t {grace}"));
    }
}
