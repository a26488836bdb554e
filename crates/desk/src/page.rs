//! The page with the cases: HTML made on the server, readable without a script.
//!
//! Every value comes from a message and is hostile until [`Text`] has written it.

use std::fmt::{self, Write};

use flow::Timestamp;
use jiff::tz::TimeZone;
use publish::wire::{EventData, Object, Role};

use crate::store::{Case, Picture, Total};

pub(crate) const STYLE: &str = include_str!("page.css");

/// Characters of one text that are shown: a message may hold 256 KiB, a page shows many.
const MAX_TEXT: usize = 300;
/// Boxes that are drawn into one picture.
const MAX_BOXES: usize = 200;

/// A text inside HTML, in an element or in a quoted attribute.
struct Text<T>(T);

impl<T: fmt::Display> fmt::Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.to_string().chars().take(MAX_TEXT) {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // Marks that turn the direction of writing could make a text look like another.
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => f.write_char('\u{fffd}')?,
                control if control.is_control() => f.write_char('\u{fffd}')?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// The page. `cases` are at most `page` cases with numbers below `before`; `link` is the connection to the broker.
pub(crate) fn render(
    cases: &[Case],
    total: Total,
    before: Option<u64>,
    page: usize,
    link: &Result<Timestamp, String>,
) -> String {
    let mut out = String::with_capacity(4096 + cases.len() * 4096);
    // Writing into a String cannot fail.
    let _ = write(&mut out, cases, total, before, page, link);
    out
}

fn write(
    out: &mut String,
    cases: &[Case],
    total: Total,
    before: Option<u64>,
    page: usize,
    link: &Result<Timestamp, String>,
) -> fmt::Result {
    out.write_str(
        "<!doctype html>\n<html lang=\"zh-CN\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">",
    )?;
    if before.is_none() {
        // A reader of older pages is not interrupted.
        out.write_str("<meta http-equiv=\"refresh\" content=\"10\">")?;
    }
    out.write_str(
        "<title>慧眼 Huiyan · 案件 Cases</title><link rel=\"stylesheet\" href=\"/style.css\"></head><body>\
         <header><h1>慧眼 <small>Huiyan</small></h1>",
    )?;
    write!(
        out,
        "<p class=\"totals\"><span class=\"open\"><b>{}</b> 持续 open</span>\
         <span class=\"ended\"><b>{}</b> 已消失 ended</span></p>",
        total.open, total.ended
    )?;
    match link {
        Ok(since) => write!(out, "<p class=\"link up\">已连接 connected · {}</p>", when(*since))?,
        Err(error) => write!(out, "<p class=\"link down\">未连接 no broker · {}</p>", Text(error))?,
    }
    out.write_str("</header><main>")?;
    if cases.is_empty() {
        out.write_str("<p class=\"empty\">暂无案件<br>No cases yet</p>")?;
    }
    for case in cases {
        card(out, case)?;
    }
    if let Some(last) = cases.last().filter(|last| cases.len() == page && last.number > 1) {
        write!(out, "<nav><a href=\"/?before={}\">更早 older →</a></nav>", last.number)?;
    }
    out.write_str(
        "</main><footer>事件是线索，不是结论；由人判定。An event is a lead, not a finding: a person decides. \
         · <a href=\"/cases.json\">cases.json</a></footer></body></html>\n",
    )
}

fn card(out: &mut String, case: &Case) -> fmt::Result {
    let (event, ended) = (&case.event, case.state == "ended");
    let state = if ended { "ended" } else { "open" };
    write!(out, "<article class=\"{state}\" id=\"case-{}\">", case.number)?;
    pictures(out, case)?;
    let label = if ended { "已消失 ended" } else { "持续 open" };
    write!(
        out,
        "<div class=\"facts\"><p class=\"head\"><span class=\"number\">№ {}</span>\
         <span class=\"state {state}\">{label}</span></p>",
        case.number
    )?;
    let zh = event.situation.zh.trim_start_matches("疑似");
    write!(out, "<h2>疑似{} <small>suspected {}</small></h2>", Text(zh), Text(&event.situation.en))?;
    out.write_str("<dl>")?;
    place(out, event)?;
    if !case.also_seen_by.is_empty() {
        write!(out, "<dt>同见 also seen by</dt><dd>{}</dd>", Text(case.also_seen_by.join(", ")))?;
    }
    if let Some(code) = &event.code {
        let set = format!("{} {}", code.set, code.version);
        write!(
            out,
            "<dt>编码 code</dt><dd><b>{}</b> {} <i>{}</i></dd>",
            Text(&code.code),
            Text(&code.name),
            Text(set)
        )?;
    }
    times(out, case)?;
    write!(
        out,
        "<dt>依据 basis</dt><dd>{} · {} · {:.0} % <i>{} {}</i></dd>",
        Text(&event.rule),
        Text(objects_in_words(&event.objects)),
        event.confidence.get() * 100.0,
        Text(&event.model.id),
        Text(&event.model.version)
    )?;
    write!(out, "</dl><p class=\"id\">{}</p></div></article>", event.event)
}

fn place(out: &mut String, event: &EventData) -> fmt::Result {
    let camera = &event.camera;
    let name = camera.name.as_deref().unwrap_or(camera.id.as_str());
    write!(out, "<dt>地点 place</dt><dd><b>{}</b>", Text(name))?;
    if let Some(address) = &camera.address {
        write!(out, "<br>{}", Text(address))?;
    }
    write!(out, "<br><i>{} · {}</i></dd>", Text(&camera.id), Text(&camera.class))?;
    write!(out, "<dt>网格 grid</dt><dd>{}", Text(camera.grid.as_deref().unwrap_or("—")))?;
    write!(out, " · 区域 zone {}", Text(&event.zone))?;
    if let Some(place) = &camera.location {
        write!(out, "<br><i>{}, {} ({})</i>", place.x, place.y, Text(&place.crs))?;
    }
    out.write_str("</dd>")
}

fn times(out: &mut String, case: &Case) -> fmt::Result {
    let times = &case.event.times;
    write!(
        out,
        "<dt>时间 times</dt><dd>{} 发现 first seen<br>{} 成立 began<br>{} 最近 last seen",
        when(times.first_seen),
        when(times.began),
        when(times.last_seen)
    )?;
    if let Some(ended) = times.ended {
        write!(out, "<br>{} 消失 ended", when(ended))?;
    }
    write!(out, "</dd><dt>更新 updates</dt><dd>{} · 立案 opened {}</dd>", case.updates, when(case.opened))
}

/// The picture that says most, with its boxes, and the others small beneath it.
fn pictures(out: &mut String, case: &Case) -> fmt::Result {
    out.write_str("<div class=\"pictures\">")?;
    let (shown, elsewhere): (Vec<_>, Vec<_>) = case.pictures.iter().partition(|picture| picture.at.is_none());
    let main = shown.iter().find(|p| p.role != Role::Clear).or(shown.first()).copied();
    match main {
        Some(picture) => figure(out, picture)?,
        None if elsewhere.is_empty() => out.write_str("<p class=\"none\">无图片<br>no picture</p>")?,
        None => {}
    }
    let others: Vec<&Picture> =
        shown.iter().copied().filter(|p| Some(&p.url) != main.map(|m| &m.url)).collect();
    if !others.is_empty() {
        out.write_str("<div class=\"more\">")?;
        others.iter().try_for_each(|picture| figure(out, picture))?;
        out.write_str("</div>")?;
    }
    for (picture, at) in elsewhere.iter().filter_map(|picture| Some((picture, picture.at.as_ref()?))) {
        let caption = caption(picture.role);
        write!(
            out,
            "<p class=\"elsewhere\">{caption}：图片在 the picture is at <code>{}</code></p>",
            Text(at)
        )?;
    }
    out.write_str("</div>")
}

fn caption(role: Role) -> &'static str {
    match role {
        Role::First => "成立时 first",
        Role::Near => "近景 near",
        Role::Latest => "最近 latest",
        Role::Clear => "消失后 clear",
    }
}

fn figure(out: &mut String, picture: &Picture) -> fmt::Result {
    let caption = caption(picture.role);
    // Made of a UUID and a role, but escaped like everything else.
    let url = Text(&picture.url);
    write!(
        out,
        "<figure><a href=\"{url}\"><img src=\"{url}\" alt=\"{caption}\">\
         <svg viewBox=\"0 0 100 100\" preserveAspectRatio=\"none\" aria-hidden=\"true\">"
    )?;
    for object in picture.objects.iter().take(MAX_BOXES) {
        let b = &object.bbox;
        write!(
            out,
            "<rect x=\"{:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{:.2}\"><title>{} {:.0} %</title></rect>",
            b.x0() * 100.0,
            b.y0() * 100.0,
            b.width() * 100.0,
            b.height() * 100.0,
            Text(&object.class),
            object.score.get() * 100.0
        )?;
    }
    write!(out, "</svg></a><figcaption>{caption}</figcaption></figure>")
}

/// `2 × car, person`.
fn objects_in_words(objects: &[Object]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for object in objects {
        match counts.iter_mut().find(|(class, _)| *class == object.class.as_str()) {
            Some((_, n)) => *n += 1,
            None => counts.push((object.class.as_str(), 1)),
        }
    }
    let word =
        |(class, n): &(&str, usize)| if *n > 1 { format!("{n} × {class}") } else { (*class).to_owned() };
    counts.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// In the time zone of the machine.
fn when(time: Timestamp) -> impl fmt::Display {
    time.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_leave_its_place_in_html_is_escaped() {
        assert_eq!(
            Text("<script>alert('a' & \"b\")</script>").to_string(),
            "&lt;script&gt;alert(&#39;a&#39; &amp; &quot;b&quot;)&lt;/script&gt;"
        );
        assert_eq!(Text("a\u{202e}b").to_string(), "a\u{fffd}b");
        assert_eq!(Text("商业街").to_string(), "商业街");
    }
}
