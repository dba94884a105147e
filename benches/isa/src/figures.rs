//! The figures of a compiled shader, and the table of all of them.

use crate::Result;
use crate::driver::Compiled;

/// What is shown of a specialisation on one family.
pub(crate) struct Figures {
    pub(crate) vgprs: u64,
    spilled_vgprs: u64,
    spilled_sgprs: u64,
    scratch_bytes: u64,
    lds_bytes: u64,
    subgroups: u64,
    pub(crate) subgroup_size: u64,
}

/// All specialisations on one family.
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) driver: String,
    pub(crate) figures: Vec<Figures>,
}

/// What the driver calls them, in the order of a line; the subgroup's size follows.
const STATISTICS: [&str; 6] = ["VGPRs", "Spilled VGPRs", "Spilled SGPRs", "Scratch size", "LDS size", "Subgroups per SIMD"];

/// The figures of `compiled` in one line.
pub(crate) fn to_line(compiled: &Compiled) -> Result<String> {
    let mut fields = STATISTICS.iter().map(|name| compiled.statistic(name)).collect::<Result<Vec<_>>>()?;
    fields.push(compiled.subgroup_size.into());
    Ok(fields.iter().map(u64::to_string).collect::<Vec<_>>().join(" "))
}

impl Figures {
    /// What [`to_line`] wrote.
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let fields = line.split(' ').map(|field| field.parse().ok()).collect::<Option<Vec<u64>>>()?;
        let [vgprs, spilled_vgprs, spilled_sgprs, scratch_bytes, lds_bytes, subgroups, subgroup_size] = fields[..] else { return None };
        Some(Self { vgprs, spilled_vgprs, spilled_sgprs, scratch_bytes, lds_bytes, subgroups, subgroup_size })
    }

    /// Whether a thread has values that do not fit its registers, or an array that is indexed by what only the run knows.
    pub(crate) fn spills(&self) -> bool {
        self.spilled_vgprs + self.spilled_sgprs + self.scratch_bytes > 0
    }

    fn spills_text(&self) -> String {
        let parts = [(self.spilled_vgprs, "VGPRs"), (self.spilled_sgprs, "SGPRs"), (self.scratch_bytes, "bytes of scratch memory")];
        let parts: Vec<String> = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        if parts.is_empty() { "0".to_owned() } else { format!("**{}**", parts.join(", ")) }
    }
}

/// The table of `specialisations`, each a kernel and a name.
pub(crate) fn table(specialisations: &[(&str, &str)], families: &[Family]) -> String {
    let mut lines = vec![String::from("| kernel | specialisation |"), String::from("|---|---|")];
    for family in families {
        lines[0].push_str(&format!(" {}: VGPRs | spills | LDS bytes | subgroups a SIMD |", family.name));
        lines[1].push_str("--:|--:|--:|--:|");
    }
    for (place, (kernel, name)) in specialisations.iter().enumerate() {
        let mut line = format!("| {kernel} | {name} |");
        for family in families {
            let figures = &family.figures[place];
            line.push_str(&format!(" {} | {} | {} | {} |", figures.vgprs, figures.spills_text(), figures.lds_bytes, figures.subgroups));
        }
        lines.push(line);
    }
    lines.join("\n") + "\n"
}

/// `text` with what stands between its markers replaced by `table`.
pub(crate) fn splice(text: &str, table: &str) -> Option<String> {
    const BEGIN: &str = "<!-- BEGIN isa -->\n";
    const END: &str = "<!-- END isa -->";
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{table}{END}{after}"))
}
