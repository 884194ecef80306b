//! Fetching by the ordinary clients, each as the machine's owner configured it: no address is named here.
//!
//! A component is made complete in a directory of its own and then renamed, so a fetch that was interrupted leaves
//! nothing that looks finished. On every later use the files are hashed again and compared with what was fetched and
//! with the committed lock: a broken disk or a helpful hand is found before a test blames gafka. What is installed from
//! them is sealed ([`crate::seal`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cache;
use crate::components::{Component, Source, offline};
use crate::lockfile::{self, Lock, Sums};
use crate::npm;
use crate::process::{run, tethered};
use crate::progress::{say, step};
use crate::seal::{self, remove_if_there, sums_of};
use crate::system::Machine;

/// A slow registry is slow, not absent.
pub(crate) const FETCH_WITHIN: Duration = Duration::from_secs(900);
/// Building a tool from source on two busy cores.
const BUILD_WITHIN: Duration = Duration::from_secs(2_400);
/// Maven resolves a plugin's newest version unless told otherwise.
const MAVEN_DEPENDENCY_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:2.8";

/// One user's components, and whether more may be fetched. Tests have stores of their own.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
    offline: bool,
}

impl Store {
    /// The one that `GAFKA_CACHE` and `GAFKA_OFFLINE` say.
    pub fn of_user() -> Result<Self> {
        Ok(Self { dir: cache::components_dir()?, offline: offline() })
    }

    pub fn at(dir: &Path, offline: bool) -> Self {
        Self { dir: dir.to_owned(), offline }
    }

    /// Makes the component present and verified. [`crate::components::ensure`] is what callers want.
    pub fn obtain(&self, component: &Component) -> Result<PathBuf> {
        let lock = lockfile::committed()?;
        let accept = |sums: &Sums| {
            verify(&lock, component, sums)?;
            if let Source::Pip(wheels) = component.source { wheels.fit(sums) } else { Ok(()) }
        };
        if let Source::Pip(wheels) = component.source {
            wheels.python().with_context(|| format!("{} cannot be installed", component.name))?;
        }
        let dir = match component.source {
            Source::System(program) => return Machine::this().obtain(&program),
            Source::Headers { files, apt } => return Machine::this().obtain_headers(files, apt),
            _ => self.cached_or_fetched(component, accept, |dir| fetch(component, dir))?.0,
        };
        let locked = || lock.get(component.name, component.version).context("verified against the lock");
        match component.source {
            Source::Pip(wheels) => {
                let _held = cache::exclusive(&dir.with_extension("venv-lock"))?;
                wheels.install(&dir, locked()?)?;
            }
            Source::Npm { .. } => {
                let _held = cache::exclusive(&dir.with_extension("npm-lock"))?;
                npm::install(&dir, locked()?)?;
            }
            _ => {}
        }
        Ok(dir)
    }

    /// Its directory and the sums of its files, from here or from afar. Whatever `accept` refuses gets no name, and
    /// what is here but changed or refused is fetched again, saying why.
    fn cached_or_fetched(
        &self,
        component: &Component,
        accept: impl Fn(&Sums) -> Result<()>,
        fetch: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<(PathBuf, Sums)> {
        let all = &self.dir;
        let dir = all.join(component.dir_name());
        let sums_path = all.join(format!("{}.sums", component.dir_name()));
        let _held = cache::exclusive(&all.join(format!("{}.lock", component.dir_name())))?;
        if dir.is_dir() && sums_path.is_file() {
            match unchanged(&dir, &sums_path).and_then(|sums| accept(&sums).map(|()| sums)) {
                Ok(sums) => return Ok((dir, sums)),
                Err(why) if self.offline => {
                    return Err(why.context("it would be fetched again, but offline was asked for"));
                }
                Err(why) => say(&format!("  {} {} is fetched again: {why:#}", component.name, component.version)),
            }
        } else if self.offline {
            bail!("{} {} is not in the cache, and offline was asked for", component.name, component.version);
        }
        let building = all.join(format!(".{}.{}", component.dir_name(), std::process::id()));
        remove_if_there(&building)?;
        remove_if_there(&dir)?;
        fs::create_dir_all(building.join("files"))?;
        let what = format!("fetching {} {}", component.name, component.version);
        let fetched = step(&what, || fetch(&building)).context(what);
        let sums =
            fetched.and_then(|()| sums_of(&building.join("files"))).and_then(|sums| accept(&sums).map(|()| sums));
        if sums.is_err() {
            remove_if_there(&building)?;
        }
        let sums = sums?;
        fs::write(&sums_path, seal::to_text(&sums))?;
        fs::rename(&building, &dir)?;
        Ok((dir, sums))
    }
}

/// Fetches whatever is not in the cache and writes what is there into `lock`.
pub fn record(component: &Component, lock: &mut Lock) -> Result<()> {
    if component.lock_strength().is_none() {
        return Ok(());
    }
    let sums = match component.source {
        Source::Pip(wheels) => wheels.of_all_machines()?,
        _ => Store::of_user()?.cached_or_fetched(component, |_| Ok(()), |dir| fetch(component, dir))?.1,
    };
    lock.set(component.name, component.version, sums);
    Ok(())
}

/// Whether a component is in the cache (not verified), for listings.
pub fn is_cached(component: &Component) -> bool {
    match component.source {
        Source::System(program) => Machine::this().has(&program),
        Source::Headers { files, .. } => Machine::this().lacks(files).is_none(),
        _ => cache::root().is_ok_and(|root| root.join("components").join(component.dir_name()).is_dir()),
    }
}

fn verify(lock: &Lock, component: &Component, sums: &Sums) -> Result<()> {
    let Some(strength) = component.lock_strength() else { return Ok(()) };
    lock.verify(component.name, component.version, sums, strength)
}

/// The sums, if they are still those of what was fetched.
fn unchanged(dir: &Path, sums_path: &Path) -> Result<Sums> {
    let recorded = seal::parse(&fs::read_to_string(sums_path)?)?;
    let found = sums_of(&dir.join("files"))?;
    match seal::difference(&recorded, &found) {
        None => Ok(found),
        Some(what) => bail!("{} changed since it was fetched: {what}", dir.display()),
    }
}

fn fetch(component: &Component, dir: &Path) -> Result<()> {
    match component.source {
        Source::Maven { artifacts } => maven(artifacts, dir),
        Source::Pip(wheels) => wheels.download(&dir.join("files")),
        Source::Npm { packages } => npm::download(packages, &dir.join("files")),
        Source::Cargo { package } => cargo_install(package, component.version, dir),
        Source::System(_) | Source::Headers { .. } => bail!("{} is not fetched but installed", component.name),
    }
}

fn maven(artifacts: &[&str], dir: &Path) -> Result<()> {
    fs::write(dir.join("pom.xml"), pom(artifacts)?)?;
    let mut command = tethered("mvn");
    command
        .current_dir(dir)
        .args(["-B", "-q", "--strict-checksums", "-f", "pom.xml"])
        .arg(format!("{MAVEN_DEPENDENCY_PLUGIN}:copy-dependencies"))
        .args(["-DincludeScope=runtime", "-DoutputDirectory=files"]);
    run(command, FETCH_WITHIN).map(drop)
}

fn pom(artifacts: &[&str]) -> Result<String> {
    let mut dependencies = String::new();
    for artifact in artifacts {
        let parts: Vec<&str> = artifact.split(':').collect();
        let &[group, name, version] = parts.as_slice() else {
            bail!("{artifact:?} is not group:artifact:version");
        };
        dependencies.push_str(&format!(
            "    <dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>\n"
        ));
    }
    Ok(format!(
        "<project>\n  <modelVersion>4.0.0</modelVersion>\n  <groupId>gafka.testkit</groupId>\n  \
         <artifactId>component</artifactId>\n  <version>1</version>\n  <packaging>pom</packaging>\n  \
         <dependencies>\n{dependencies}  </dependencies>\n</project>\n"
    ))
}

fn cargo_install(package: &str, version: &str, dir: &Path) -> Result<()> {
    let mut command = tethered(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["install", "--quiet", "--locked", "--no-track", "--version", version, package]);
    command.arg("--root").arg(dir.join("root")).arg("--target-dir").arg(dir.join("target"));
    // Least work for the compiler: it runs for a second per test run.
    command.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1").env("CARGO_PROFILE_RELEASE_LTO", "off");
    command.current_dir(dir);
    run(command, BUILD_WITHIN)?;
    fs::rename(dir.join("root/bin").join(package), dir.join("files").join(package))?;
    remove_if_there(&dir.join("target"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JAR: Component = Component {
        name: "jar",
        version: "1",
        about: "",
        source: Source::Maven { artifacts: &["g:jar:1"] },
        needs: &[],
        nightly: false,
    };
    const WHEEL: Component = Component { name: "python-clients", source: Source::Maven { artifacts: &[] }, ..JAR };

    fn fetches(content: &'static str) -> impl FnOnce(&Path) -> Result<()> {
        move |dir| Ok(fs::write(dir.join("files/a.jar"), content)?)
    }

    fn unasked(_: &Path) -> Result<()> {
        panic!("fetched without need")
    }

    fn anything(_: &Sums) -> Result<()> {
        Ok(())
    }

    #[test]
    fn what_was_fetched_is_not_fetched_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path(), false);
        let (files, sums) = store.cached_or_fetched(&JAR, anything, fetches("a")).unwrap();
        assert_eq!(fs::read_to_string(files.join("files/a.jar")).unwrap(), "a");
        assert_eq!(store.cached_or_fetched(&JAR, anything, unasked).unwrap(), (files, sums));
    }

    #[test]
    fn a_changed_byte_in_the_cache_is_noticed_and_fetched_again() {
        let dir = tempfile::tempdir().unwrap();
        let (store, offline) = (Store::at(dir.path(), false), Store::at(dir.path(), true));
        let (files, _) = store.cached_or_fetched(&JAR, anything, fetches("a")).unwrap();
        let jar = files.join("files/a.jar");
        for hand in ["changed", "added"] {
            let file = if hand == "added" { files.join("files/b.jar") } else { jar.clone() };
            fs::write(&file, "b").unwrap();
            let err = format!("{:#}", offline.cached_or_fetched(&JAR, anything, unasked).unwrap_err());
            assert!(err.contains("offline was asked for") && err.contains("changed since"), "{err}");
            store.cached_or_fetched(&JAR, anything, fetches("a")).unwrap();
            assert_eq!(fs::read_to_string(&jar).unwrap(), "a");
            assert!(!files.join("files/b.jar").exists());
        }
    }

    #[test]
    fn who_changed_the_recorded_sums_too_still_does_not_pass_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path(), false);
        let (files, good) = store.cached_or_fetched(&JAR, anything, fetches("a")).unwrap();
        let mut lock = Lock::default();
        lock.set("jar", "1", good);
        let accept = |sums: &Sums| verify(&lock, &JAR, sums);
        fs::write(files.join("files/a.jar"), "b").unwrap();
        let sums = sums_of(&files.join("files")).unwrap();
        fs::write(dir.path().join("jar-1.sums"), seal::to_text(&sums)).unwrap();
        let offline = Store::at(dir.path(), true);
        let err = format!("{:#}", offline.cached_or_fetched(&JAR, accept, unasked).unwrap_err());
        assert!(err.contains("a.jar: fetched") && err.contains("locked"), "{err}");
        store.cached_or_fetched(&JAR, accept, fetches("a")).unwrap();
        assert_eq!(fs::read_to_string(files.join("files/a.jar")).unwrap(), "a");
    }

    #[test]
    fn a_wheel_outside_the_lock_is_refused_and_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut lock = Lock::default();
        lock.set("python-clients", "1", [("a-1-cp311.whl".to_owned(), "00".to_owned())].into());
        let accept = |sums: &Sums| verify(&lock, &WHEEL, sums);
        let fetches = |dir: &Path| Ok(fs::write(dir.join("files/a-1-cp399.whl"), "unknown")?);
        let err = format!("{:#}", Store::at(dir.path(), false).cached_or_fetched(&WHEEL, accept, fetches).unwrap_err());
        assert!(err.contains("a-1-cp399.whl: not in components.lock"), "{err}");
        assert!(!dir.path().join(WHEEL.dir_name()).exists());
    }

    #[test]
    fn offline_fetches_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let err = Store::at(dir.path(), true).cached_or_fetched(&JAR, anything, unasked).unwrap_err().to_string();
        assert_eq!(err, "jar 1 is not in the cache, and offline was asked for");
    }

    #[test]
    fn a_pom_names_every_artifact_and_no_address() {
        let pom = pom(&["g:a:1", "h:b:2"]).unwrap();
        assert!(pom.contains("<artifactId>a</artifactId><version>1</version>"));
        assert!(pom.contains("<groupId>h</groupId>"));
        assert!(!pom.contains("http"));
        assert!(!pom.contains("<exclusion>"));
        assert!(super::pom(&["g:a"]).is_err());
    }
}
