//! Making a kernel's WGSL: its parts joined, its constants written down, its loops over registers unrolled.
//!
//! Registers cannot be indexed, and drivers do not reliably unroll, so loops over them are written out here. In a part,
//!
//! ```text
//! //: for r in ROWS
//! sum_$r = fma(weight, vec4<f32>(rows[$ru]), sum_$r);
//! //: end
//! ```
//!
//! stands for its body, once for every value from 0 to ROWS - 1, with `$r` replaced by the value. ROWS is a number or one of the
//! specialisation's constants, which the text also has as `const ROWS: u32`. Such loops nest. A constant's value is written as `$ROWS` where
//! WGSL takes no constant, as in the name of a type.

use crate::gpu::kernels::{Extension, Part};
use crate::gpu::specialise::Specialisation;

/// A specialisation's WGSL text.
#[derive(Clone, Debug)]
pub struct Shader {
    /// the whole text
    pub source: String,
    /// (file, line in it) of every line of the text
    origins: Vec<(&'static str, usize)>,
}

/// What stands before the parts, in messages.
const CONSTANTS: &str = "constants";

impl Shader {
    /// The text of `specialisation`, whose overrides are still open.
    ///
    /// # Panics
    /// If a part's loops do not match or name no constant, which the tests rule out.
    pub fn new(specialisation: &Specialisation) -> Self {
        let mut shader = Self { source: String::new(), origins: Vec::new() };
        let directives = specialisation.kernel.kernel().extension().map_or(&[][..], Extension::directives);
        directives.iter().for_each(|directive| shader.push(directive, (CONSTANTS, 1)));
        for (number, (name, value)) in specialisation.constants.iter().enumerate() {
            shader.push(&format!("const {name}: u32 = {value}u;"), (CONSTANTS, number + 1));
        }
        for Part { file, text } in specialisation.parts() {
            let lines: Vec<(usize, &str)> = (1..).zip(text.lines()).collect();
            shader.unroll(file, &lines, &specialisation.constants, &specialisation.constants);
        }
        shader
    }

    fn push(&mut self, line: &str, origin: (&'static str, usize)) {
        self.source.push_str(line);
        self.source.push('\n');
        self.origins.push(origin);
    }

    /// Writes `lines` of `file`, inside loops whose variables have the values `bound`.
    fn unroll(&mut self, file: &'static str, lines: &[(usize, &str)], constants: &[(&'static str, u32)], bound: &[(&str, u32)]) {
        let mut next = 0;
        while let Some(&(number, line)) = lines.get(next) {
            next += 1;
            let Some(header) = loop_header(line) else {
                let text = bound.iter().fold(line.to_owned(), |text, (name, value)| text.replace(&format!("${name}"), &value.to_string()));
                self.push(&text, (file, number));
                continue;
            };
            let len = body_len(&lines[next..]).unwrap_or_else(|| panic!("shaders/{file}:{number}: a loop without end"));
            let count = constants.iter().find(|(name, _)| *name == header.count).map(|(_, value)| *value).or_else(|| header.count.parse().ok());
            for value in 0..count.unwrap_or_else(|| panic!("shaders/{file}:{number}: no constant {}", header.count)) {
                let inner: Vec<_> = bound.iter().copied().chain([(header.variable, value)]).collect();
                self.unroll(file, &lines[next..next + len], constants, &inner);
            }
            next += len + 1;
        }
    }

    /// The file and the line in it where line `line` of the whole text stands.
    pub fn locate(&self, line: usize) -> (&'static str, usize) {
        self.origins.get(line.saturating_sub(1)).or(self.origins.last()).copied().unwrap_or((CONSTANTS, 1))
    }

    /// `message` of a shader compiler, with every `wgsl:LINE:COLUMN` turned into the file and line of the part.
    pub(crate) fn with_files(&self, message: &str) -> String {
        let mut parts = message.split("wgsl:");
        let mut text = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            match part[..digits].parse() {
                Ok(line) => {
                    let (file, line) = self.locate(line);
                    text.push_str(&format!("shaders/{file}:{line}{}", &part[digits..]));
                }
                Err(_) => text.push_str(&format!("wgsl:{part}")),
            }
        }
        text
    }
}

/// `//: for VARIABLE in COUNT`
struct Header<'a> {
    variable: &'a str,
    count: &'a str,
}

fn loop_header(line: &str) -> Option<Header<'_>> {
    let (variable, count) = line.trim().strip_prefix("//: for ")?.split_once(" in ")?;
    Some(Header { variable, count })
}

/// Lines before the `//: end` of the loop whose body starts with `lines`.
fn body_len(lines: &[(usize, &str)]) -> Option<usize> {
    let mut depth = 0;
    lines.iter().position(|(_, line)| {
        let ends = line.trim() == "//: end";
        if ends && depth == 0 {
            return true;
        }
        depth = if loop_header(line).is_some() { depth + 1 } else { depth - usize::from(ends) };
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unrolled(text: &'static str) -> Shader {
        let mut shader = Shader { source: String::new(), origins: Vec::new() };
        let lines: Vec<_> = (1..).zip(text.lines()).collect();
        shader.unroll("step.wgsl", &lines, &[("ROWS", 2)], &[]);
        shader
    }

    #[test]
    fn loops_are_written_out_and_nest() {
        let shader = unrolled("a\n//: for r in ROWS\n  //: for j in 3\nx_$r_$j = $ru;\n  //: end\ny_$r\n//: end\nb");
        assert_eq!(shader.source, "a\nx_0_0 = 0u;\nx_0_1 = 0u;\nx_0_2 = 0u;\ny_0\nx_1_0 = 1u;\nx_1_1 = 1u;\nx_1_2 = 1u;\ny_1\nb\n");
    }

    #[test]
    fn a_line_of_the_whole_is_a_line_of_a_part() {
        let shader = unrolled("a\n//: for r in ROWS\nx_$r\ny_$r\n//: end\nb");
        let lines: Vec<_> = (1..=6).map(|line| shader.locate(line).1).collect();
        assert_eq!(lines, [1, 3, 4, 3, 4, 6]);
        assert_eq!(shader.with_files("error at wgsl:5:9: no"), "error at shaders/step.wgsl:4:9: no");
    }

    #[test]
    #[should_panic(expected = "shaders/step.wgsl:2: no constant ROW")]
    fn a_count_that_is_no_constant_is_found() {
        unrolled("a\n//: for r in ROW\nx\n//: end");
    }
}
