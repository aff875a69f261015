//! Guards against a page that misleads whoever it was sent to: a number or a line that is not what was recorded, a gap
//! that is drawn over, a name that becomes markup, a page that calls somewhere, labels that nobody can read on a phone.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::stop::{record, text};
use crate::support::*;

/// The page without its namespace is XML as it is HTML. Prints what is in it: `section` with the sensor and the
/// field, then its numbers, labels and paths.
const READ_PAGE: &str = r#"
import sys, xml.etree.ElementTree as tree
page = tree.fromstring(sys.stdin.buffer.read())
tags = set(e.tag for e in page.iter()), set(name for e in page.iter() for name in e.keys())
print('tags', *(' '.join(sorted(names)) for names in tags))
print('references', *sorted(set(e.get('href') for e in page.iter() if e.get('href'))))
words = lambda e: ' '.join(''.join(e.itertext()).split())
print('header', words(page.find('.//header')))
print('notes', ' '.join(words(p) for p in page.iterfind(".//p[@class='n']")))
for mark in page.iterfind(".//g[@id='s']/path"):
    print('mark', mark.get('class'), mark.get('d'))
print('times', '|'.join(words(t) for t in page.iterfind(".//g[@id='t']/text")))
for section in page.iterfind('.//section'):
    print('section', words(section.find('h2')))
    print('last', words(section.find(".//p[@class='v']")))
    for item in section.iterfind('.//li'):
        print(words(item))
    for label in section.iterfind('.//i[@style]'):
        print('label', label.get('style'), words(label))
    for svg in section.iterfind(".//svg[@class='p']"):
        print('view', svg.get('viewBox'))
        for path in svg.iterfind('path'):
            print('path-' + path.get('class'), path.get('d'))
"#;

fn page(db: &Path, options: &str) -> String {
    let mut arguments = vec!["show", "--format", "html", "--db", text(db)];
    arguments.extend(options.split_whitespace());
    let (code, out, err) = seawall(&arguments);
    assert_eq!((code, err.as_str()), (0, ""));
    out
}

#[derive(Debug, Default)]
struct Read {
    /// What is about the whole page, by its first word.
    shared: BTreeMap<String, Vec<String>>,
    /// By sensor and field.
    sections: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

impl Read {
    /// Of one section; empty where there is none of it.
    fn of(&self, name: &str, what: &str) -> String {
        let section = self.sections.get(name);
        let section = section.unwrap_or_else(|| panic!("no {name} in {:?}", self.sections.keys()));
        section.get(what).map_or(String::new(), |all| all.join(" "))
    }
}

fn read(page: &str) -> Read {
    let dir = Dir::new("page");
    fs::write(dir.file("page.html"), page).unwrap();
    let output = python3()
        .args(["-c", READ_PAGE])
        .stdin(fs::File::open(dir.file("page.html")).unwrap())
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}\n{page}");
    let mut found = Read::default();
    let mut into = String::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        if what == "section" {
            into = rest.to_owned();
            found.sections.insert(into.clone(), BTreeMap::new());
            continue;
        }
        let to = found.sections.get_mut(&into).unwrap_or(&mut found.shared);
        to.entry(what.to_owned()).or_default().push(rest.to_owned());
    }
    found
}

/// The points of a path, each stretch by itself; a band comes back along its lower side.
fn stretches(path: &str) -> Vec<Vec<(f64, f64)>> {
    let mut found = Vec::new();
    for part in path.split('M').skip(1) {
        let part = part
            .trim_end_matches('z')
            .replace("h0", "")
            .replace('-', " -");
        let mut points: Vec<(f64, f64)> = Vec::new();
        for (side, text) in part.split('L').enumerate() {
            let (first, rest) = text.split_once('l').unwrap_or((text, ""));
            let numbers = |text: &str| -> Vec<f64> {
                text.split_whitespace()
                    .map(|n| n.parse().unwrap())
                    .collect()
            };
            let first = numbers(first);
            assert_eq!(first.len(), 2, "{side}: {path}");
            points.push((first[0], first[1]));
            for step in numbers(rest).chunks(2) {
                let (x, y) = points[points.len() - 1];
                points.push((x + step[0], y + step[1]));
            }
        }
        found.push(points);
    }
    found
}

/// A minute apart, up to a round time.
fn minutes(name: &str, count: u64, value: impl Fn(u64) -> Option<f64>) -> String {
    let line = |n: u64| {
        Some(format!(
            "{name}={} {}000000000\n",
            value(n)?,
            START_S + n * 60
        ))
    };
    (0..count).filter_map(line).collect()
}

const START_S: u64 = 1_764_201_600;

#[test]
fn numbers_and_lines_are_those_that_sql_finds() {
    let dir = Dir::new("html-values");
    let db = dir.file("x.db");
    let mut rng = fastrand::Rng::with_seed(7);
    let noise: Vec<f64> = (0..1441)
        .map(|_| f64::from(rng.u32(0..4000)) / 100.0)
        .collect();
    record_lines(
        &db,
        &minutes("m,k=1 temperature_c", 1441, |n| {
            Some(noise[n as usize] - 9.5)
        }),
    );
    let page = read(&page(&db, "--since none"));
    let name = "m,k=1 temperature_c";
    let of = |what: &str| page.of(name, what);
    let expected = sql(
        &db,
        "SELECT min(value), avg(value), max(value), count(*) FROM readings",
    );
    let expected: Vec<f64> = expected.split('|').map(|n| n.parse().unwrap()).collect();
    for (what, expected) in ["min", "mean", "max", "readings"].iter().zip(&expected) {
        let found: f64 = of(what).replace(',', "").parse().unwrap();
        assert!(
            (found - expected).abs() < 0.006,
            "{what} {found} {expected}"
        );
    }
    let last = sql(&db, "SELECT value FROM readings ORDER BY id DESC LIMIT 1");
    let last = last.parse::<f64>().unwrap();
    let (found, rest) = of("last")
        .split_once(' ')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    assert!((found.parse::<f64>().unwrap() - last).abs() < 0.001 && rest.starts_with("°C "));

    // One pixel of the axis, from two of its labels.
    let labels = page.sections[name]["label"].iter().filter_map(|label| {
        let (top, value) = label.strip_prefix("top:")?.split_once("px ")?;
        Some((top.parse::<f64>().unwrap(), value.parse::<f64>().ok()?))
    });
    let labels: Vec<(f64, f64)> = labels.collect();
    let ((y0, v0), (y1, v1)) = (labels[0], labels[labels.len() - 1]);
    let value = |y: f64| v0 + (y - y0) * (v1 - v0) / (y1 - y0);
    let pixel = (value(1.0) - value(0.0)).abs();

    let parts = of("view")
        .split(' ')
        .nth(2)
        .unwrap()
        .parse::<i64>()
        .unwrap();
    assert_eq!(parts, 288);
    let (from_ns, length_ns) = (START_S as i64 * 1_000_000_000, 86_400_000_000_000_i64);
    let part_ns = length_ns / parts + 1;
    let rows = sql(
        &db,
        &format!(
            "SELECT (time_ns - {from_ns}) / {part_ns}, min(value), avg(value), max(value)
             FROM readings GROUP BY 1 ORDER BY 1"
        ),
    );
    let mean = stretches(&of("path-m"));
    let band = stretches(&of("path-b"));
    assert_eq!((mean.len(), band.len()), (1, 1));
    let rows: Vec<Vec<f64>> = rows
        .lines()
        .map(|row| row.split('|').map(|n| n.parse().unwrap()).collect())
        .collect();
    assert_eq!((rows.len(), mean[0].len(), band[0].len()), (288, 288, 576));
    for (n, row) in rows.iter().enumerate() {
        let drawn = [band[0][575 - n], mean[0][n], band[0][n]];
        for ((x, y), expected) in drawn.iter().zip(&row[1..]) {
            assert_eq!(*x, row[0]);
            let apart = (value(*y) - expected).abs();
            // The labels are rounded to a pixel themselves.
            assert!(apart < 2.0 * pixel, "{n}: {} {expected}", value(*y));
        }
    }
}

#[test]
fn a_million_readings_are_counted_whole() {
    let dir = Dir::new("html-million");
    let db = dir.file("x.db");
    let mut recorder = record(&db, "--source sim:rate=max,count=1000001");
    recorder.close_stdin();
    assert_eq!(recorder.wait().code(), 0);
    let page = read(&page(&db, "--since none"));
    for sensor in [1, 8] {
        let query = format!(
            "SELECT count(*), min(value), avg(value), max(value) FROM readings WHERE series = {sensor}"
        );
        let expected = sql(&db, &query);
        let expected: Vec<f64> = expected.split('|').map(|n| n.parse().unwrap()).collect();
        let name = format!("sim,sensor={sensor} temperature_c");
        for (what, expected) in ["readings", "min", "mean", "max"].iter().zip(expected) {
            let written = page.of(&name, what).replace(',', "");
            let found: f64 = written.parse().unwrap();
            // As many decimals as the last, the least and the greatest have: one where all three are whole.
            let decimals = written.split_once('.').map_or(0, |(_, tail)| tail.len());
            let most = 0.51 * 0.1_f64.powi(decimals as i32);
            assert!(
                (found - expected).abs() < most,
                "{what} {written} {expected}"
            );
        }
    }
    assert!(page.shared["header"][0].contains("8 series, 1,000,001 readings."));
}

#[test]
fn where_readings_are_missing_the_line_breaks_and_nowhere_else() {
    let dir = Dir::new("html-gap");
    let db = dir.file("x.db");
    // Six hours without, from 06:00.
    let dense = |n: u64| (!(360..721).contains(&n)).then_some(20.0 + (n % 7) as f64);
    // Each half hour, two of them missing at 12:00.
    let sparse = |n: u64| (n.is_multiple_of(30) && !(710..760).contains(&n)).then_some(3.0);
    let single = |n: u64| (n == 700).then_some(5.0);
    let lines = minutes("dense f", 1441, dense)
        + &minutes("sparse f", 1441, |n| (n % 30 == 0).then_some(3.0))
        + &minutes("silent f", 1441, sparse)
        + &minutes("single f", 1441, single);
    record_lines(&db, &lines);
    let page = read(&page(&db, "--since none"));
    for (name, class) in [("dense f", "m"), ("dense f", "b")] {
        let drawn = stretches(&page.of(name, &format!("path-{class}")));
        assert_eq!(drawn.len(), 2, "{name}: {drawn:?}");
        let ends = |points: &[(f64, f64)]| {
            let x = || points.iter().map(|(x, _)| *x);
            (x().fold(f64::MAX, f64::min), x().fold(0.0, f64::max))
        };
        // Of 288 parts a quarter is missing.
        assert_eq!(ends(&drawn[0]), (0.0, 71.0));
        assert_eq!(ends(&drawn[1]), (144.0, 287.0));
    }
    let whole = stretches(&page.of("sparse f", "path-m"));
    assert_eq!((whole.len(), whole[0].len()), (1, 49), "{whole:?}");
    let broken = stretches(&page.of("silent f", "path-m"));
    assert_eq!(broken.len(), 2, "{broken:?}");
    // One reading is a dot, which has no length.
    assert_eq!(page.of("single f", "path-m"), "");
    assert_eq!(stretches(&page.of("single f", "path-o")).concat().len(), 1);
}

#[test]
fn what_is_no_number_or_not_there_is_said() {
    let dir = Dir::new("html-kinds");
    let db = dir.file("x.db");
    let long = "long ".repeat(50);
    let lines = format!(
        "door open=true {0}000000000\ndoor open=false {1}000000000\nlog text=\"{long}\" {1}000000000\n\
         pump total=18446744073709551615u {1}000000000\n",
        START_S,
        START_S + 3600
    );
    record_lines(&db, &lines);
    record_lines(&db, "old f=1 1000000000\n");
    let options = format!("--since {START_S}");
    let found = read(&page(&db, &options));
    assert!(found.of("door open", "last").starts_with("false "));
    let labels = found.of("door open", "label");
    assert!(
        labels.contains("px 0") && labels.contains("px 1"),
        "{labels}"
    );
    assert_eq!(found.of("door open", "mean"), "0.5");
    let last = found.of("log text", "last");
    assert!(
        last.starts_with("\"long long") && last.chars().count() < 100,
        "{last}"
    );
    assert_eq!(
        found.of("log text", "view") + &found.of("log text", "min"),
        ""
    );
    assert!(
        found
            .of("pump total", "last")
            .starts_with("18446744073709551615 ")
    );
    assert_eq!(found.of("old f", "last"), "no reading in this time");

    let none = read(&page(&db, "--sensor nothing"));
    assert!(none.sections.is_empty());
    assert!(none.shared["notes"][0].contains("no sensor matches --sensor \"nothing\""));
    let empty = dir.file("empty.db");
    record_lines(&empty, "");
    let none = read(&page(&empty, "--since none"));
    assert_eq!(none.shared["notes"], ["no reading has been recorded"]);
}

#[test]
fn labels_of_an_axis_are_round_whatever_the_values() {
    let dir = Dir::new("html-axis");
    let db = dir.file("x.db");
    let cases = [
        ("38.6 44.9", "40 42 44"),
        ("-0.2 0.13", "-0.2 -0.1 0.0 0.1"),
        (
            "101325.12 101325.2",
            "101325.12 101325.14 101325.16 101325.18 101325.20",
        ),
        ("7 7", "6 7 8"),
        // The last digits of floats are no change.
        ("1.9 1.9000000000000001", "1.0 1.5 2.0 2.5"),
        ("10.2 10.200000000000003", "9.5 10.0 10.5 11.0"),
        ("-1e300 1e300", "-5.000e299 0.000e0 5.000e299"),
        ("-1.7e308 1.7e308", "-1.000e308 0.000e0 1.000e308"),
        ("1.7976931348623157e308", "1.796e308 1.797e308"),
        ("5e-324 0", "-1 0 1"),
    ];
    let mut lines = String::new();
    for (n, (values, _)) in cases.iter().enumerate() {
        for value in values.split(' ') {
            lines += &format!("m,n={n} f={value} {START_S}000000000\n");
        }
    }
    record_lines(&db, &lines);
    let found = read(&page(&db, "--since none"));
    for (n, (values, expected)) in cases.iter().enumerate() {
        let labels = found.of(&format!("m,n={n} f"), "label");
        let labels = labels
            .split_whitespace()
            .filter(|word| !word.starts_with("top:"));
        assert_eq!(labels.collect::<Vec<_>>().join(" "), *expected, "{values}");
    }
    // One moment has ten seconds before it, in 288 parts.
    assert!(
        found.shared["header"][0].contains("mean of 34 ms"),
        "{found:?}"
    );
    assert_eq!(
        found.shared["times"],
        ["UTC|23:59:52|23:59:54|23:59:56|23:59:58"]
    );
    let extremes = "a f=1 -9223372036854775807\na f=2 9223372036854775807\n";
    record_lines(&dir.file("ends.db"), extremes);
    let found = read(&page(&dir.file("ends.db"), "--since none"));
    assert!(found.shared["header"][0].contains("21 Sep 1677 00:12:43 to 11 Apr 2262 23:47:16 UTC"));
}

#[test]
fn long_windows_are_labelled_by_the_months_and_years_that_begin() {
    let dir = Dir::new("html-years");
    // From 1 February 2024 on, 2024 has a leap day.
    let cases = [
        (300, "UTC|Apr 2024|Jul 2024|Oct 2024"),
        (700, "UTC|Jul 2024|Jan 2025|Jul 2025"),
        (4000, "UTC|Jan 2025|Jan 2028|Jan 2031|Jan 2034"),
    ];
    for (days, expected) in cases {
        let db = dir.file(&format!("{days}.db"));
        let (from_s, day_s) = (1_706_745_600_u64, 86_400);
        let to_s = from_s + days * day_s;
        record_lines(
            &db,
            &format!("m f=1 {from_s}000000000\nm f=2 {to_s}000000000\n"),
        );
        let found = read(&page(&db, "--since none"));
        assert_eq!(found.shared["times"], [expected], "{days} days");
    }
}

#[test]
fn runs_and_settings_of_the_clock_are_marked() {
    let dir = Dir::new("html-marks");
    let db = dir.file("x.db");
    record_lines(&db, &minutes("m f", 1441, |n| Some(n as f64)));
    let unmarked = read(&page(&db, "--since none"));
    assert!(
        !unmarked.shared.contains_key("mark")
            || !unmarked.shared["mark"]
                .iter()
                .any(|m| m.starts_with(['r', 'k']))
    );
    // The end of a part belongs to it. Reading 1082 is that of 18:01.
    let noon_s = START_S + 43_260;
    sql(
        &db,
        &format!("UPDATE runs SET started_ns = {noon_s}000000000"),
    );
    sql(&db, "INSERT INTO clock_steps VALUES(1, 1081, -2000000000)");
    let found = read(&page(&db, "--since none"));
    let marks: Vec<&String> = found.shared["mark"]
        .iter()
        .filter(|m| m.starts_with(['r', 'k']))
        .collect();
    // Of 288 parts; the height is that of the chart.
    assert_eq!(marks, ["r M144 0v200", "k M216 0v200"]);
    let header = &found.shared["header"][0];
    assert!(
        header.contains("Runs began: 27 Nov 2025 12:01:00"),
        "{header}"
    );
    assert!(
        header.contains("The clock was set: 27 Nov 2025 18:01:00 (back by 2 s)"),
        "{header}"
    );
    assert!(
        header.contains("27 Nov 2025 00:00:00 to 28 Nov 2025 00:00:00 UTC"),
        "{header}"
    );
    assert_eq!(found.shared["times"], ["UTC|06:00|12:00|18:00"]);
}

#[test]
fn a_name_of_a_stranger_stays_text_and_the_page_fetches_nothing() {
    let dir = Dir::new("html-hostile");
    let db = dir.file("a&b<i>.db");
    let hostile = "<script>alert(1)</script>";
    let lines = format!(
        "m,x={hostile},y=\u{202e}evil&amp;\"'{hostile} temperature_c=1\n\
         a,u=javascript:x \"><img\\ src\\=x\\ onerror\\=alert(1)>=2\n\
         log text=\"</style></svg>{hostile}\u{2067}\"\n\
         c,n=\u{7}bell\u{1b}[2J,o=\u{fffe} f=3\n"
    );
    record_lines(&db, &lines);
    let page = page(&db, "");
    let found = read(&page);
    assert_eq!(found.sections.len(), 4);
    assert!(
        found
            .sections
            .keys()
            .any(|name| name.contains(hostile) && name.contains("&amp;\"'"))
    );
    assert!(found.of("log text", "last").contains("</style></svg>"));
    assert!(found.shared["header"][0].starts_with("a&b<i>.db"));
    for c in ['\u{202e}', '\u{2067}', '\u{7}', '\u{1b}', '\u{fffe}'] {
        assert!(!page.contains(c), "{c:?}");
    }
    assert_eq!(
        found.shared["tags"],
        [
            "b body defs div g h1 h2 head header html i li main meta p path section style svg text title u ul use \
          aria-hidden charset class content d height href http-equiv id lang name preserveAspectRatio style \
          text-anchor viewBox width x y"
        ]
    );
    assert_eq!(found.shared["references"], ["#s #t"]);
    let style = page.split("<style>").nth(1).unwrap();
    let style = style.split("</style>").next().unwrap();
    assert!(!style.contains("url("));
    assert_eq!(style.matches('@').count(), style.matches("@media").count());
    assert!(page.contains("default-src 'none';style-src 'unsafe-inline'"));
}

/// Fifty sensors and a day, each reading of its own, as far apart as can be.
fn fifty_sensors() -> String {
    let mut rng = fastrand::Rng::with_seed(3);
    let mut lines = String::new();
    for n in 0..50 {
        let name = match n % 5 {
            0 => format!(
                "hwmon,channel=temp{n},chip=coretemp,device=platform/coretemp.0,label=Core\\ {n} temperature_c"
            ),
            1 => format!("room,floor={n},house=north humidity_percent"),
            2 => format!("meter,phase={n} energy_kwh"),
            3 => format!("{}x{n} f", "name-without-a-place-to-break-it".repeat(4)),
            _ => format!("fan,n={n} fan_rpm"),
        };
        let scale = [1e3, 1e2, 1e9, 1e-5, 1e4][n % 5];
        let values: Vec<f64> = (0..288).map(|_| rng.f64() * scale).collect();
        lines += &minutes(&name, 1441, |m| {
            (m % 5 == 0).then(|| values[m as usize / 5 % 288])
        });
    }
    lines
}

#[test]
fn fifty_sensors_and_a_day_are_below_100_kilobytes() {
    let dir = Dir::new("html-size");
    let db = dir.file("x.db");
    record_lines(&db, &fifty_sensors());
    let page = page(&db, "--since none");
    assert_eq!(read(&page).sections.len(), 50);
    assert!(page.len() < 100_000, "{} bytes", page.len());
}

/// Loads the page unchanged into frames of both widths, and prints each text that leaves its card or the frame, and
/// each two that overlap. What all charts share is copied into each, because a script cannot measure what is used.
const MEASURE: &str = r#"<!DOCTYPE html><body><script>
const page = PAGE, out = [];
const frame = width => new Promise(done => {
  const f = document.createElement('iframe');
  f.style = `border:0;width:${width}px;height:900px`;
  f.onload = () => done(f);
  f.srcdoc = page;
  document.body.append(f);
});
async function measure(width) {
  const doc = (await frame(width)).contentDocument, win = doc.defaultView, rects = [];
  for (const svg of doc.querySelectorAll('.x')) svg.append(doc.getElementById('t').cloneNode(true));
  if (doc.documentElement.scrollWidth > width) out.push(`${width}: scrolls to ${doc.documentElement.scrollWidth}`);
  const walk = doc.createTreeWalker(doc.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode, range = doc.createRange();
    if (!node.data.trim() || node.parentNode.closest('defs')) continue;
    range.selectNodeContents(node);
    const card = (node.parentNode.closest('section') || doc.documentElement).getBoundingClientRect();
    for (const r of range.getClientRects()) {
      if (r.left < card.left || r.right > card.right + .5 || r.top < card.top || r.bottom > card.bottom + .5)
        out.push(`${width}: "${node.data}" leaves its card: ${r.left} ${r.right} of ${card.left} ${card.right}`);
      rects.push([r, node]);
    }
  }
  rects.sort((a, b) => a[0].top - b[0].top);
  rects.forEach(([a, one], n) => {
    for (let m = n + 1; m < rects.length && rects[m][0].top < a.bottom - 1; m++) {
      const [b, other] = rects[m];
      if (one != other && b.left < a.right - 1 && b.right > a.left + 1)
        out.push(`${width}: "${one.data}" over "${other.data}"`);
    }
  });
  const sheet = win.getComputedStyle(doc.querySelector('.p')).height;
  out.push(`measured ${width} ${rects.length} ${doc.querySelectorAll('section').length} ${sheet}`);
}
measure(360).then(() => measure(1280)).then(() => { document.body.textContent = out.join('\n'); });
</script></body>"#;

/// What `MEASURE` says of a page; `None` where there is no browser.
fn measured(page: &str) -> Option<Vec<String>> {
    let dir = Dir::new("browser");
    let quoted = page
        .replace('\\', "\\\\")
        .replace('`', "\\`")
        .replace("${", "\\${");
    let wrapper = MEASURE.replace("PAGE", &format!("`{}`", quoted.replace("</", "<\\/")));
    fs::write(dir.file("wrapper.html"), wrapper).unwrap();
    let output = Command::new("timeout")
        .args([
            "120",
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .args([
            "--window-size=1400,1000",
            "--virtual-time-budget=60000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", text(&dir.file("profile"))))
        .arg(format!("file://{}", text(&dir.file("wrapper.html"))))
        .output()
        .unwrap();
    if output.status.code() == Some(127) {
        skip("no chromium");
        return None;
    }
    let dom = String::from_utf8(output.stdout).unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && dom.contains("measured 1280"),
        "{dom}\n{err}"
    );
    let body = dom.split("<body>").nth(1).unwrap();
    let body = body.split("</body>").next().unwrap();
    Some(body.lines().map(str::to_owned).collect())
}

#[test]
fn no_text_overlaps_or_overflows_on_a_phone_or_a_screen() {
    let dir = Dir::new("html-browser");
    let db = dir.file("x.db");
    let more = "log,host=pi message=\"link up on eth0, and a word withoutanyplacetobreakitatallwhichislongerthanaphone\"\n\
                c,n=1 total=1234567890123i\nc,n=1 total=1234567890999i\nd open=true\nz,n=2 v=-1.5e-300\nz,n=2 v=1e300\n\
                one temperature_c=20.25\n";
    // Readings of now would leave a day of 2025 one part.
    let more: String = more
        .lines()
        .map(|line| format!("{line} {}000000000\n", START_S + 7_000))
        .collect();
    record_lines(&db, &(fifty_sensors() + &more));
    sql(
        &db,
        &format!("UPDATE runs SET started_ns = {}000000000", START_S + 9_000),
    );
    sql(&db, "INSERT INTO clock_steps VALUES(1, 1081, -2000000000)");
    for options in ["--since none", "--since none --sensor c*"] {
        let Some(found) = measured(&page(&db, options)) else {
            return;
        };
        let (measured, wrong): (Vec<_>, Vec<_>) =
            found.iter().partition(|line| line.starts_with("measured"));
        assert!(wrong.is_empty(), "{options}: {}\n{wrong:#?}", wrong.len());
        assert_eq!(measured.len(), 2, "{found:?}");
    }
    // The measure can fail.
    let page = page(&db, "--since none --sensor c*");
    let too_wide = page.replace("li{min-width:54px}", "li{min-width:420px}");
    let overlapping = page.replace("</style>", "ul{margin-top:-20px}</style>");
    for (wrong, what) in [(too_wide, "scrolls"), (overlapping, "over")] {
        assert_ne!(wrong, page);
        let found = measured(&wrong).unwrap();
        assert!(
            found.iter().any(|line| line.contains(what)),
            "{what}: {found:#?}"
        );
    }
}
