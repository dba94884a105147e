//! What AMD's shader compiler makes of cellgate's kernels: registers, spills, workgroup memory and occupancy, on a machine without any GPU.
//!
//! Mesa's driver for AMD compiles for whatever GPU `RADV_FORCE_FAMILY` names; what it then cannot do is run the result. Later versions know
//! no such variable, but are told of any GPU by a library that is loaded before them, `libamdgpu_noop_drm_shim.so`.

mod describe;
mod driver;
mod figures;
mod shipped;
mod spirv;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use driver::Driver;
use figures::{Family, Figures};
use shipped::Shipped;
use spirv::Checks;

/// Errors are for the person at the terminal.
type Result<T> = std::result::Result<T, String>;

const USAGE: &str = "\
usage: isa [--list] [--family NAME]... [--checked] [--driver MANIFEST] [--shim LIBRARY] [--disassembly NAME]

Compiles every specialisation that plans of typical stacks use, and writes the table of shaders/README.md.
Exit code 1: something spills. Exit code 2: it could not be found out.

  --list               the specialisations alone
  --family NAME        a GPU in Mesa's words, such as VEGA10, NAVI21, GFX1100 (NAVI31 in later ones); the table is printed, not written
  --checked            with wgpu's run-time checks in the shaders; the table is printed, not written
  --driver MANIFEST    the radeon_icd JSON file of another Mesa than the installed one
  --shim LIBRARY       libamdgpu_noop_drm_shim.so, without which Mesa 26 compiles for no GPU that is not there (Debian: mesa-drm-shim)
  --disassembly NAME   the instructions of the specialisations whose `kernel: specialisation` contains NAME";

/// RDNA 2 and RDNA 3, in the words of any Mesa: an entry's first name that the driver knows counts.
const FAMILIES: [&[&str]; 2] = [&["NAVI21"], &["GFX1100", "NAVI31"]];

/// The family, set for a child, which is this program with the driver's environment: Mesa reads it once a process, so each family has one.
const CHILD: &str = "ISA_CHILD";

struct Arguments {
    list: bool,
    families: Vec<String>,
    checks: Checks,
    driver: Option<PathBuf>,
    shim: Option<PathBuf>,
    disassembly: Option<String>,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode> {
    let Some(arguments) = arguments()? else {
        say(USAGE);
        return Ok(ExitCode::SUCCESS);
    };
    let all = shipped::all()?;
    let names = describe::names(&all)?;
    let specialisations: Vec<(&str, &str)> = all.iter().zip(&names).map(|(shipped, name)| (shipped.kernel, name.as_str())).collect();
    let titles: Vec<String> = specialisations.iter().map(|(kernel, name)| format!("{kernel}: {name}")).collect();
    if arguments.list {
        say(&titles.join("\n"));
        return Ok(ExitCode::SUCCESS);
    }
    if let Ok(family) = std::env::var(CHILD) {
        return compile_all(&family, &arguments, &all, &titles).map(|()| ExitCode::SUCCESS);
    }
    if let Some(name) = arguments.disassembly.as_ref().filter(|name| !titles.iter().any(|title| title.contains(*name))) {
        return Err(format!("no specialisation contains `{name}`; --list shows them"));
    }
    let manifest = manifest(arguments.driver.as_deref())?;
    let given: Vec<Vec<&str>> = arguments.families.iter().map(|family| vec![family.as_str()]).collect();
    let wanted = if given.is_empty() { FAMILIES.map(<[&str]>::to_vec).to_vec() } else { given };
    let families = wanted.iter().map(|names| first_known(names, &manifest, &arguments, &titles)).collect::<Result<Vec<_>>>()?;
    if arguments.disassembly.is_some() {
        return Ok(ExitCode::SUCCESS);
    }
    report(&arguments, &specialisations, &families)
}

fn arguments() -> Result<Option<Arguments>> {
    let mut found = Arguments { list: false, families: Vec::new(), checks: Checks::Trusted, driver: None, shim: None, disassembly: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value\n\n{USAGE}"));
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--list" => found.list = true,
            "--checked" => found.checks = Checks::Checked,
            "--family" => found.families.push(value()?),
            "--driver" => found.driver = Some(value()?.into()),
            "--shim" => found.shim = Some(value()?.into()),
            "--disassembly" => found.disassembly = Some(value()?),
            _ => return Err(format!("unknown argument `{argument}`\n\n{USAGE}")),
        }
    }
    Ok(Some(found))
}

/// The JSON file that tells the Vulkan loader where Mesa's driver for AMD is.
fn manifest(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        return given.is_file().then(|| given.to_owned()).ok_or(format!("--driver {}: there is no such file", given.display()));
    }
    let folders = ["/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/usr/share/vulkan/icd.d"];
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten().map(|entry| entry.path());
    // other processors' drivers may lie beside this one's
    let names = ["radeon_icd.json".to_owned(), format!("radeon_icd.{}.json", std::env::consts::ARCH)];
    let is_radv = |file: &PathBuf| names.iter().any(|name| file.ends_with(name));
    files.into_iter().find(is_radv).ok_or_else(|| {
        format!(
            "no {} in {}: Mesa's driver for AMD is missing (Debian, Ubuntu: apt install mesa-vulkan-drivers)",
            names.join(" or "),
            folders.join(", ")
        )
    })
}

/// The family under the first of its names that works.
fn first_known(names: &[&str], manifest: &Path, arguments: &Arguments, titles: &[String]) -> Result<Family> {
    let mut errors = Vec::new();
    for name in names {
        match in_child(name, manifest, arguments, titles) {
            Ok(family) => return Ok(family),
            Err(error) => errors.push(error),
        }
    }
    Err(errors.join("\n"))
}

/// Runs this program again as the compiler of one family.
fn in_child(name: &str, manifest: &Path, arguments: &Arguments, titles: &[String]) -> Result<Family> {
    let program = std::env::current_exe().map_err(|error| format!("this program does not find itself: {error}"))?;
    let prints = arguments.disassembly.is_some();
    let mut child = Command::new(program);
    match &arguments.shim {
        Some(shim) => child.env("LD_PRELOAD", shim).env("AMDGPU_GPU_ID", name.to_lowercase()),
        None => child.env("RADV_FORCE_FAMILY", name),
    };
    let child = child
        .args(std::env::args_os().skip(1))
        .env(CHILD, name)
        // the second name is that of older loaders
        .envs(["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].map(|variable| (variable, manifest)))
        .env("MESA_SHADER_CACHE_DISABLE", "true")
        .stdout(if prints { Stdio::inherit() } else { Stdio::piped() })
        // the driver warns of what is the point here; its words matter where it fails
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    let output = String::from_utf8_lossy(&child.stdout);
    let mut lines = output.lines();
    let driver = lines.next().unwrap_or_default().to_owned();
    let figures: Vec<Figures> = lines.map_while(Figures::from_line).collect();
    if child.status.success() && (prints || figures.len() == titles.len()) {
        return Ok(Family { name: name.to_owned(), driver, figures });
    }
    let at = titles.get(figures.len()).filter(|_| !driver.is_empty()).map(|title| format!(" at {title}")).unwrap_or_default();
    let said = String::from_utf8_lossy(&child.stderr);
    Err(format!("{name}: the compiler gave up{at} ({}), saying:\n{}", child.status, said.trim_end()))
}

/// The child's part: the driver's name, then a line of figures for each specialisation; or the instructions of some.
fn compile_all(family: &str, arguments: &Arguments, all: &[Shipped], titles: &[String]) -> Result<()> {
    let driver = Driver::open()?;
    if arguments.disassembly.is_none() {
        say(&driver.name);
    }
    for (shipped, title) in all.iter().zip(titles) {
        if arguments.disassembly.as_ref().is_some_and(|name| !title.contains(name)) {
            continue;
        }
        let compiled = driver.compile(&spirv::translate(shipped, arguments.checks)?)?;
        if arguments.disassembly.is_some() {
            say(&format!("== {family}, {title}\n{}", compiled.disassembly));
        } else {
            say(&figures::to_line(&compiled)?);
        }
    }
    Ok(())
}

/// Writes or prints the table, and says what spills.
fn report(arguments: &Arguments, specialisations: &[(&str, &str)], families: &[Family]) -> Result<ExitCode> {
    let table = figures::table(specialisations, families);
    let sizes: std::collections::BTreeSet<u64> = families.iter().flat_map(|family| &family.figures).map(|figures| figures.subgroup_size).collect();
    let sizes = sizes.iter().map(u64::to_string).collect::<Vec<_>>().join(" and ");
    let footer = format!(
        "\nDriver: {}; subgroups of {sizes} threads. For RDNA it counts every 32 threads as a subgroup of the SIMD, of which there are 32 at most.\n",
        families[0].driver
    );
    if arguments.families.is_empty() && arguments.checks == Checks::Trusted {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shaders/README.md");
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let text = figures::splice(&text, &format!("{table}{footer}"))
            .ok_or("shaders/README.md has no markers `<!-- BEGIN isa -->` and `<!-- END isa -->`")?;
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        say(&format!("shaders/README.md: {} specialisations, {}", specialisations.len(), families[0].driver));
    } else {
        say(format!("{table}{footer}").trim_end());
    }
    let mut spills = false;
    for family in families {
        for ((kernel, name), _) in specialisations.iter().zip(&family.figures).filter(|(_, figures)| figures.spills()) {
            eprintln!("{}: {kernel}: {name}: spills", family.name);
            spills = true;
        }
    }
    Ok(ExitCode::from(u8::from(spills)))
}

/// Writes a line to the standard output; a reader that is gone misses nothing.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
