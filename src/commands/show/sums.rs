//! Sums that `show` builds while it reads: for each series and each part of the window the least, the greatest, the sum
//! and the count. It is bounded, whatever the database holds. Pure.

use std::collections::HashMap;
use std::time::Duration;

use super::values::{NumberFormat, Shown, cut, shorten, visible};
use crate::reading::{Kind, Value};

/// Upper bounds on series and on their names, which bound the memory: in a container it has what the recorder leaves.
const SERIES_MAX: usize = 1000;
const NAME_BYTES_MAX: usize = 128 * 1024;

/// Sums are scaled by it, which is exact, so that a million million of the greatest numbers have a mean.
const SCALE: f64 = 1.0 / (1_u64 << 40) as f64;

/// The times that are shown, in equal parts.
#[derive(Debug)]
pub struct Window {
    pub from_ns: i64,
    pub to_ns: i64,
    pub parts: usize,
}

impl Window {
    pub fn length_ns(&self) -> u64 {
        self.to_ns.max(self.from_ns).wrapping_sub(self.from_ns) as u64
    }

    /// Rounded up.
    pub fn part_ns(&self) -> u64 {
        self.length_ns() / self.parts as u64 + 1
    }

    /// Index of the part of a time.
    pub fn part(&self, part_ns: u64, time_ns: i64) -> usize {
        let part = time_ns.max(self.from_ns).wrapping_sub(self.from_ns) as u64 / part_ns;
        // A clock may have been ahead.
        part.min(self.parts as u64 - 1) as usize
    }
}

/// Readings of one series in one part of the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    pub count: u64,
    /// Above `greatest` where no reading is a number.
    pub least: f64,
    pub greatest: f64,
    scaled_sum: f64,
}

impl Bucket {
    pub const EMPTY: Bucket = Bucket {
        count: 0,
        least: f64::INFINITY,
        greatest: f64::NEG_INFINITY,
        scaled_sum: 0.0,
    };

    pub fn total(parts: &[Bucket]) -> Bucket {
        parts.iter().fold(Bucket::EMPTY, |all, part| Bucket {
            count: all.count + part.count,
            least: all.least.min(part.least),
            greatest: all.greatest.max(part.greatest),
            scaled_sum: all.scaled_sum + part.scaled_sum,
        })
    }

    /// A number; NaN stands for a text, and then no reading of the series is a number.
    fn add(&mut self, number: f64) {
        self.count += 1;
        self.least = self.least.min(number);
        self.greatest = self.greatest.max(number);
        self.scaled_sum += number * SCALE;
    }

    /// Least, mean and greatest, of numbers.
    pub fn range(&self) -> Option<[f64; 3]> {
        let mean = self.scaled_sum / self.count as f64 / SCALE;
        (self.least <= self.greatest).then_some([self.least, mean, self.greatest])
    }

    #[cfg(test)]
    pub fn of(numbers: &[f64]) -> Bucket {
        let mut all = Bucket::EMPTY;
        numbers.iter().for_each(|number| all.add(*number));
        all
    }
}

/// One series, as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct ShownSeries {
    pub sensor: String,
    pub field: String,
    /// Sum over all parts.
    pub whole: Bucket,
    pub parts: Vec<Bucket>,
    /// The newest reading in the window.
    pub last: Option<Last>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Last {
    pub value: Shown,
    pub age: Duration,
}

impl ShownSeries {
    /// The newest value, the least, the mean and the greatest, with the same decimals.
    pub fn written(&self, text_width: usize) -> [Option<String>; 4] {
        let range = self.whole.range();
        let [min, mean, max] = range.unwrap_or_default();
        let last = self.last.as_ref().map(|last| &last.value);
        let format = match last {
            Some(Shown::Real(v)) => NumberFormat::of(&[*v, min, max]),
            _ => NumberFormat::of(&[min, max]),
        };
        let last = last.map(|last| match last {
            Shown::Real(v) => format.write(*v),
            Shown::Integer(v) => v.to_string(),
            Shown::Boolean(v) => v.to_string(),
            Shown::Unsigned(v) => v.clone(),
            Shown::Text(text) => format!("\"{}\"", cut(&visible(text), text_width)),
        });
        let number = |format: NumberFormat, value| range.map(|_| format.write(value));
        [
            last,
            number(format, min),
            number(format.mean(), mean),
            number(format, max),
        ]
    }

    /// Indices of the parts with numbers, in stretches without a gap. A series with several readings a part has a gap
    /// at each part without one; any other where it was silent for more than twice its usual time.
    pub fn stretches(&self) -> Vec<Vec<usize>> {
        let is_known = |n: &usize| self.parts[*n].range().is_some();
        let known: Vec<usize> = (0..self.parts.len()).filter(is_known).collect();
        let pairs = known.len().saturating_sub(1);
        let within = |apart: &usize| known.windows(2).filter(|p| p[1] - p[0] <= *apart).count();
        let usual = (1..).find(|apart| within(apart) * 2 >= pairs).unwrap_or(1);
        let is_dense = self.whole.count >= known.len() as u64 * 2;
        let apart_max = if is_dense { 1 } else { usual * 2 };
        let stretches = known.chunk_by(|one, next| next - one <= apart_max);
        stretches.map(<[usize]>::to_vec).collect()
    }
}

pub struct Sum {
    kind: Kind,
    time_ns: i64,
    last: Option<Shown>,
    parts: Vec<Bucket>,
}

impl Sum {
    pub fn add(&mut self, time_ns: i64, value: Value<'_>, part: usize) {
        // The later of two that have the same time was taken later.
        if time_ns >= self.time_ns {
            self.time_ns = time_ns;
            self.last = Some(match (value, self.kind) {
                (Value::Real(v), _) => Shown::Real(v),
                (Value::Integer(v), Kind::Boolean) => Shown::Boolean(v != 0),
                (Value::Integer(v), _) => Shown::Integer(v),
                (Value::Text(v), Kind::Unsigned) => Shown::Unsigned(v.to_owned()),
                (Value::Text(v), _) => Shown::Text(shorten(v)),
            });
        }
        self.parts[part].add(match value {
            Value::Real(v) => v,
            Value::Integer(v) => v as f64,
            Value::Text(v) if self.kind == Kind::Unsigned => v.parse().unwrap_or(f64::NAN),
            Value::Text(_) => f64::NAN,
        });
    }

    fn shown(self, sensor: String, field: String, now_ns: i64) -> ShownSeries {
        let age_ns = now_ns.saturating_sub(self.time_ns).max(0);
        let age = Duration::from_nanos(age_ns as u64);
        ShownSeries {
            sensor,
            field,
            whole: Bucket::total(&self.parts),
            parts: self.parts,
            last: self.last.map(|value| Last { value, age }),
        }
    }
}

/// Sensor, field and type.
type Key = (String, String, Kind);

#[derive(Default)]
pub struct Sums {
    by_name: HashMap<Key, usize>,
    name_bytes: usize,
    sums: Vec<Sum>,
    /// Some series are beyond the bounds, and so many readings of them.
    pub is_cut: bool,
    pub left_out: u64,
}

impl Sums {
    /// `None` beyond the bounds.
    pub fn place(&mut self, sensor: &str, field: &str, kind: Kind, parts: usize) -> Option<usize> {
        let key = (sensor.to_owned(), field.to_owned(), kind);
        if let Some(place) = self.by_name.get(&key) {
            return Some(*place);
        }
        let (place, name_bytes) = (self.sums.len(), sensor.len() + field.len());
        if place == SERIES_MAX || self.name_bytes + name_bytes > NAME_BYTES_MAX {
            self.is_cut = true;
            return None;
        }
        self.name_bytes += name_bytes;
        self.by_name.insert(key, place);
        self.sums.push(Sum {
            kind,
            time_ns: i64::MIN,
            last: None,
            parts: vec![Bucket::EMPTY; parts],
        });
        Some(place)
    }

    pub fn at(&mut self, place: Option<usize>) -> Option<&mut Sum> {
        self.sums.get_mut(place?)
    }

    /// In no order.
    pub fn shown(self, now_ns: i64) -> Vec<ShownSeries> {
        let mut sums: Vec<Option<Sum>> = self.sums.into_iter().map(Some).collect();
        let named = self.by_name.into_iter();
        named
            .filter_map(|((sensor, field, _), place)| {
                let sum = sums.get_mut(place)?.take()?;
                Some(sum.shown(sensor, field, now_ns))
            })
            .collect()
    }
}
