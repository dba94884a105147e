//! Joining a kernel's parts into one shader, and finding the way back from a line of it to a file.

use crate::gpu::kernels::Kernel;

/// A kernel's parts joined into one WGSL text.
#[derive(Clone, Debug)]
pub struct Shader {
    /// the whole text
    pub source: String,
    /// (first line, file) of every part, in order; lines count from 1
    starts: Vec<(usize, &'static str)>,
}

impl Shader {
    /// Joins the parts of `kernel`.
    pub fn new(kernel: &Kernel) -> Self {
        let mut shader = Self { source: String::new(), starts: Vec::new() };
        let mut line = 1;
        for &(file, text) in kernel.parts {
            shader.starts.push((line, file));
            shader.source.push_str(text);
            line += text.lines().count();
        }
        shader
    }

    /// The file and the line in it where line `line` of the whole text stands.
    pub fn locate(&self, line: usize) -> (&'static str, usize) {
        let &(start, file) = self.starts.iter().rev().find(|(start, _)| *start <= line).unwrap_or(&self.starts[0]);
        (file, line - start + 1)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::kernels::KernelId;

    #[test]
    fn a_line_of_the_whole_is_a_line_of_a_part() {
        let kernel = KernelId::Step.kernel();
        let shader = Shader::new(kernel);
        let lines: Vec<_> = shader.source.lines().collect();
        for (file, text) in kernel.parts {
            let number = lines.iter().position(|line| *line == text.lines().next().unwrap_or_default()).expect("the part is in the whole") + 1;
            assert_eq!(shader.locate(number), (*file, 1));
            assert_eq!(shader.locate(number + 3), (*file, 4));
        }
        let (file, line) = shader.locate(lines.len());
        assert_eq!(shader.with_files(&format!("error at wgsl:{}:9: no", lines.len())), format!("error at shaders/{file}:{line}:9: no"));
    }
}
