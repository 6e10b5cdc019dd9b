//! Owns recorded light: a CSV file of `t_s,lux` rows and the light between them. Never simulates. Any thread.

use std::path::Path;

use crate::disk;
use crate::error::{Error, Kind, Result};

/// Longest scene (s): 31 days, half a minute of work on a desktop machine.
const LONGEST_S: f64 = 31.0 * 86_400.0;
/// Largest file (bytes): a row for each second of the longest scene, and a device that never ends is refused.
const LARGEST: u64 = 64 << 20;

/// Light over time: rows of time (s) and lux, joined by straight lines in log10(lux). Two rows of one time are a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// Time (s), never falling, the last above the first; log10 of lux.
    rows: Vec<(f64, f64)>,
}

impl Trace {
    /// Reads a file of the form `t_s,lux`. A header line, empty lines and lines that begin with `#` are passed over.
    pub fn read(path: &Path) -> Result<Trace> {
        let name = path.display();
        let text = disk::read_text(path, LARGEST).map_err(|e| {
            let rule = format!("give the path of a CSV file of t_s,lux rows, at most {} MiB", LARGEST >> 20);
            Error::caused(Kind::Io, format!("read light trace {name}: {rule}"), e)
        })?;
        Trace::parse(&text, &name.to_string())
    }

    /// Reads the text of such a file; `name` stands in errors.
    pub fn parse(text: &str, name: &str) -> Result<Trace> {
        let mut rows: Vec<(f64, f64)> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') || (rows.is_empty() && line.replace(' ', "") == "t_s,lux") {
                continue;
            }
            let refuse =
                |rule: &str| Error::new(Kind::Usage, format!("read light trace {name}: line {}: {rule}, not {line:?}", i + 1));
            let (t, lux) = line.split_once(',').ok_or_else(|| refuse("a row is two numbers, t_s,lux"))?;
            let number = |text: &str| text.trim().parse::<f64>().ok().filter(|x| x.is_finite());
            let t = number(t).filter(|t| *t >= 0.0).ok_or_else(|| refuse("t_s must be a number of seconds, 0 or more"))?;
            let lux = number(lux).filter(|l| *l > 0.0).ok_or_else(|| refuse("lux must be a number above 0"))?;
            if rows.last().is_some_and(|&(before, _)| t < before) {
                return Err(refuse("t_s must not be earlier than in the row before"));
            }
            if rows.first().is_some_and(|&(first, _)| t - first > LONGEST_S) {
                return Err(refuse("t_s must be at most 2678400 (31 days) later than in the first row"));
            }
            rows.push((t, lux.log10()));
        }
        if rows.len() < 2 {
            let found = rows.len();
            return Err(Error::new(
                Kind::Usage,
                format!("read light trace {name}: there must be at least 2 rows of t_s,lux, not {found}"),
            ));
        }
        if rows[rows.len() - 1].0 <= rows[0].0 {
            let rule = "t_s of the last row must be later than in the first";
            return Err(Error::new(Kind::Usage, format!("read light trace {name}: {rule}, not {}", rows[0].0)));
        }
        Ok(Trace { rows })
    }

    /// A trace from rows of time (s) and lux, as a test writes it.
    pub fn from_rows(rows: &[(f64, f64)]) -> Result<Trace> {
        let text: Vec<String> = rows.iter().map(|(t, lux)| format!("{t},{lux}")).collect();
        Trace::parse(&text.join("\n"), "rows")
    }

    /// Time of the first row (s).
    pub fn start(&self) -> f64 {
        self.rows[0].0
    }

    /// Time of the last row (s).
    pub fn end(&self) -> f64 {
        self.rows[self.rows.len() - 1].0
    }

    /// A reader that goes forward in time.
    pub fn reader(&self) -> Reader<'_> {
        Reader { rows: &self.rows, at: 0 }
    }
}

/// Reads a [`Trace`] forward: each look starts where the last one ended.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rows: &'a [(f64, f64)],
    at: usize,
}

impl Reader<'_> {
    /// log10(lux) at `t` (s); before the first and after the last row that row's value; at a step the value behind it. Times must
    /// not fall.
    pub fn log_lux(&mut self, t: f64) -> f64 {
        while self.at + 2 < self.rows.len() && self.rows[self.at + 1].0 <= t {
            self.at += 1;
        }
        let ((t0, l0), (t1, l1)) = (self.rows[self.at], self.rows[self.at + 1]); // there are two rows at least
        if t >= t1 { l1 } else { l0 + (l1 - l0) * ((t - t0) / (t1 - t0)).max(0.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn light_between_rows_is_straight_in_its_logarithm() {
        let t = Trace::parse("t_s,lux\n\n# dusk\n10, 100\n20,1\n30,1\n", "x.csv").unwrap();
        let mut r = t.reader();
        let lux: Vec<f64> = [0.0, 10.0, 15.0, 20.0, 29.0, 99.0].map(|s| 10_f64.powf(r.log_lux(s))).to_vec();
        for (got, want) in lux.iter().zip([100.0, 100.0, 10.0, 1.0, 1.0, 1.0]) {
            assert!((got - want).abs() < 1e-9, "{lux:?}");
        }
        assert_eq!((t.start(), t.end()), (10.0, 30.0));
    }

    #[test]
    fn two_rows_of_one_time_are_a_step() {
        let t = Trace::parse("0,100\n0,10\n10,10\n10,1\n10,1000\n20,1000\n20,1\n", "x.csv").unwrap();
        let mut r = t.reader();
        let lux: Vec<f64> = [0.0, 5.0, 9.999, 10.0, 19.999, 20.0, 21.0].map(|s| 10_f64.powf(r.log_lux(s)).round()).to_vec();
        assert_eq!(lux, [10.0, 10.0, 10.0, 1000.0, 1000.0, 1.0, 1.0]);
    }

    #[test]
    fn a_clock_of_any_zero_will_do() {
        let t = Trace::parse("1764331200,5\n1764417600,5\n", "x.csv").unwrap();
        assert!((t.end() - t.start() - 86_400.0).abs() < 1e-9);
    }

    #[test]
    fn a_file_that_never_ends_is_refused() {
        let e = Trace::read(Path::new("/dev/zero")).unwrap_err();
        assert!(e.to_string().ends_with("at most 64 MiB: it is a device and not a regular file"), "{e}");
    }

    #[test]
    fn a_bad_row_is_named_with_its_rule_and_value() {
        for (text, says) in [
            ("t_s,lux\n0,5\n1;5\n", "read light trace a.csv: line 3: a row is two numbers, t_s,lux, not \"1;5\""),
            ("0,5\n1,0\n", "read light trace a.csv: line 2: lux must be a number above 0, not \"1,0\""),
            ("0,5\n1,NaN\n", "read light trace a.csv: line 2: lux must be a number above 0, not \"1,NaN\""),
            ("-3,5\n", "read light trace a.csv: line 1: t_s must be a number of seconds, 0 or more, not \"-3,5\""),
            ("4,5\n3.9,6\n", "read light trace a.csv: line 2: t_s must not be earlier than in the row before, not \"3.9,6\""),
            ("NaN,5\n", "read light trace a.csv: line 1: t_s must be a number of seconds, 0 or more, not \"NaN,5\""),
            ("0,5\ninf,5\n", "read light trace a.csv: line 2: t_s must be a number of seconds, 0 or more, not \"inf,5\""),
            (
                "0,5\n1e15,6\n",
                "read light trace a.csv: line 2: t_s must be at most 2678400 (31 days) later than in the first row, not \"1e15,6\"",
            ),
            ("4,5\n4,6\n", "read light trace a.csv: t_s of the last row must be later than in the first, not 4"),
            ("t_s,lux\n4,5\n", "read light trace a.csv: there must be at least 2 rows of t_s,lux, not 1"),
        ] {
            let e = Trace::parse(text, "a.csv").unwrap_err();
            assert_eq!((e.to_string().as_str(), e.kind), (says, Kind::Usage));
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let e = Trace::read(Path::new("no/such.csv")).unwrap_err();
        assert!(e.to_string().starts_with("read light trace no/such.csv: "), "{e}");
        assert_eq!(e.kind, Kind::Io);
    }
}
