//! Messages into cases, without a broker.

use publish::wire::{Code, EventMessage, Role};

use super::{jpeg, message};
use crate::page;
use crate::store::{Arrival, Received, Store, Total};

struct Desk {
    store: Store,
    dir: tempfile::TempDir,
}

fn desk(evidence_max_bytes: u64) -> Desk {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("desk.sqlite"), evidence_max_bytes).unwrap();
    Desk { store, dir }
}

impl Desk {
    fn receive(&self, message: &EventMessage) -> Received {
        self.store.receive(message, &message.to_json().unwrap()).unwrap()
    }

    fn page(&self) -> String {
        let cases = self.store.cases(None, 50).unwrap();
        page::render(&cases, self.store.total().unwrap(), None, 50, &Err("not yet".into()))
    }
}

#[test]
fn what_arrives_together_is_stored_as_one_after_the_other() {
    let (together, single) = (desk(1 << 20), desk(1 << 20));
    let messages = [message(1, 0), message(2, 0), message(1, 0), message(1, 1), message(2, 1)];
    let picture = jpeg(64);
    let mut group = Vec::new();
    for message in &messages {
        let body = message.to_json().unwrap().into();
        group.push(Arrival::Event { message: Box::new(message.clone()), body });
        group.push(Arrival::Picture {
            event: message.data.event,
            role: Role::First,
            bytes: picture.bytes.clone().into(),
        });
    }
    let received: Vec<_> = together.store.take(&group).unwrap();
    let expected: Vec<_> = messages.iter().flat_map(|m| [Some(single.receive(m)), None]).collect();
    assert_eq!(received, expected);
    assert_eq!(together.store.total().unwrap(), single.store.total().unwrap());
    let cases = |desk: &Desk| serde_json::to_value(desk.store.cases(None, 50).unwrap()).unwrap();
    assert_eq!(cases(&together).as_array().unwrap().len(), 2);
}

#[test]
fn a_situation_is_one_case_whatever_comes_twice() {
    let mut desk = desk(1 << 20);
    assert_eq!(desk.receive(&message(1, 0)), Received::Opened(1));
    assert_eq!(desk.receive(&message(1, 0)), Received::Duplicate(1));
    assert_eq!(desk.receive(&message(1, 1)), Received::Attached(1));
    assert_eq!(desk.store.total().unwrap(), Total { open: 1, ended: 0 });
    // The desk is started again in between.
    desk.store = Store::open(&desk.dir.path().join("desk.sqlite"), 1 << 20).unwrap();
    assert_eq!(desk.receive(&message(1, 1)), Received::Duplicate(1));
    assert_eq!(desk.receive(&message(1, 2)), Received::Attached(1));
    assert_eq!(desk.receive(&message(1, 2)), Received::Duplicate(1));
    let cases = desk.store.cases(None, 10).unwrap();
    assert_eq!(cases.len(), 1);
    assert_eq!((cases[0].state.as_str(), cases[0].updates), ("ended", 1));
    assert!(cases[0].event.times.ended.is_some());
}

#[test]
fn numbers_have_no_gaps() {
    let desk = desk(1 << 20);
    for number in 1..=5 {
        assert_eq!(desk.receive(&message(number, 0)), Received::Opened(number));
        assert_eq!(desk.receive(&message(number, 0)), Received::Duplicate(number));
    }
    let numbers: Vec<_> = desk.store.cases(None, 10).unwrap().iter().map(|case| case.number).collect();
    assert_eq!(numbers, [5, 4, 3, 2, 1], "newest first");
    let older: Vec<_> = desk.store.cases(Some(3), 1).unwrap().iter().map(|case| case.number).collect();
    assert_eq!(older, [2]);
}

#[test]
fn messages_in_any_order_make_the_same_case() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let desk = desk(1 << 20);
        let received = order.map(|sequence| desk.receive(&message(1, sequence)));
        assert_eq!(
            received,
            [Received::Opened(1), Received::Attached(1), Received::Attached(1)],
            "{order:?}"
        );
        let case = desk.store.cases(None, 10).unwrap().remove(0);
        assert_eq!((case.state.as_str(), case.updates, case.event.sequence), ("ended", 1, 2), "{order:?}");
    }
}

/// Message `sequence` of situation `number`, which another camera sees too.
fn view(number: u64, sequence: u32, of: &EventMessage) -> EventMessage {
    let mut message = message(number, sequence);
    message.data.camera.id = flow::CameraId::new("hn-0002").unwrap();
    message.subject = message.data.camera.id.clone();
    message.data.same_as = Some(of.data.event);
    message.data.problem = of.data.problem.clone();
    message
}

#[test]
fn what_two_cameras_see_is_one_case_in_any_order_and_over_when_both_say_so() {
    let first = message(1, 0);
    let all = [(1, 0), (1, 2), (2, 0), (2, 2)];
    let made =
        |(number, sequence)| if number == 1 { message(1, sequence) } else { view(2, sequence, &first) };
    // Each order of the four, with its ends: of one situation they come in order, of two in any.
    let mut orders = 0;
    for order in 0..24_usize {
        let (mut left, mut rest, mut sent) = (all.to_vec(), order, vec![]);
        for size in (1..=4).rev() {
            sent.push(left.remove(rest % size));
            rest /= size;
        }
        let at = |what| sent.iter().position(|other| *other == what).unwrap();
        if at((1, 0)) > at((1, 2)) || at((2, 0)) > at((2, 2)) {
            continue;
        }
        orders += 1;
        let desk = desk(1 << 20);
        for (index, what) in sent.iter().enumerate() {
            let received = desk.receive(&made(*what));
            assert_eq!(received, if index == 0 { Received::Opened(1) } else { Received::Attached(1) });
            assert_eq!(desk.receive(&made(*what)), Received::Duplicate(1));
            let told = &sent[..=index];
            let open = [1, 2].iter().any(|n| told.contains(&(*n, 0)) && !told.contains(&(*n, 2)));
            assert_eq!(
                desk.store.total().unwrap(),
                Total { open: open.into(), ended: (!open).into() },
                "{told:?}"
            );
        }
        let case = desk.store.cases(None, 10).unwrap().remove(0);
        assert_eq!((case.event.event, case.event.sequence), (first.data.event, 2), "{sent:?}");
        assert_eq!(case.also_seen_by, ["hn-0002"]);
        assert!(desk.page().contains("同见 also seen by</dt><dd>hn-0002"));
    }
    assert_eq!(orders, 6);
}

#[test]
fn a_close_up_has_its_boxes_where_they_are_in_it() {
    let desk = desk(1 << 20);
    let (mut message, jpeg) = (message(1, 1), jpeg(64));
    message.data.objects.truncate(1);
    message.data.objects[0].bbox = flow::NormBox::new(0.3, 0.4, 0.5, 0.6).unwrap();
    let picture = &mut message.data.evidence[0];
    (picture.role, picture.sha256, picture.part) =
        (Role::Near, jpeg.sha256.clone(), Some([0.2, 0.2, 0.6, 0.6]));
    desk.receive(&message);
    desk.store.keep_picture(message.data.event, Role::Near, &jpeg.bytes).unwrap();
    let case = desk.store.cases(None, 10).unwrap().remove(0);
    let bbox = case.pictures[0].objects[0].bbox.to_array().map(|v| (v * 100.0).round());
    assert_eq!((case.pictures[0].role, bbox), (Role::Near, [25.0, 50.0, 75.0, 100.0]));
}

#[test]
fn the_pictures_of_both_cameras_are_in_the_case() {
    let desk = desk(1 << 20);
    let (jpeg, first) = (jpeg(64), message(1, 0));
    for mut message in [first.clone(), view(2, 0, &first)] {
        message.data.evidence[0].sha256 = jpeg.sha256.clone();
        desk.receive(&message);
        desk.store.keep_picture(message.data.event, Role::First, &jpeg.bytes).unwrap();
    }
    let case = desk.store.cases(None, 10).unwrap().remove(0);
    assert_eq!(case.pictures.len(), 2);
    assert!(case.pictures[0].url.contains(&first.data.event.to_string()), "its own first");
    assert_eq!(desk.page().matches("<figure>").count(), 2);
}

#[test]
fn a_picture_is_shown_with_the_boxes_of_the_message_that_named_it() {
    let desk = desk(1 << 20);
    let (first, other) = (jpeg(64), jpeg(80));
    let mut began = message(1, 0);
    began.data.evidence[0].sha256 = first.sha256.clone();
    desk.receive(&began);
    assert!(desk.store.cases(None, 1).unwrap()[0].pictures.is_empty(), "it is not there yet");
    desk.store.keep_picture(began.data.event, Role::First, &other.bytes).unwrap();
    assert!(desk.store.cases(None, 1).unwrap()[0].pictures.is_empty(), "it is another one");
    desk.store.keep_picture(began.data.event, Role::First, &first.bytes).unwrap();
    let case = desk.store.cases(None, 1).unwrap().remove(0);
    assert_eq!((case.pictures.len(), case.pictures[0].objects.len()), (1, 1));
    assert!(desk.page().contains(r#"<rect x="50.00" y="25.00" width="25.00" height="50.00">"#));
}

#[test]
fn the_oldest_pictures_go_first_and_those_without_a_case_before_them() {
    let size = jpeg(64).bytes.len() as u64;
    let desk = desk(3 * size);
    desk.receive(&message(1, 0));
    let keep = |number| {
        let event = message(number, 0).data.event;
        desk.store.keep_picture(event, Role::First, &jpeg(64).bytes).unwrap();
    };
    let there = |number| desk.store.picture(message(number, 0).data.event, Role::First).unwrap().is_some();
    (1..=20).for_each(keep);
    assert!(there(1), "the only one with a case, though the oldest");
    assert_eq!((2..=20).filter(|n| there(*n)).count(), 2);
}

#[test]
fn a_hostile_message_does_not_get_into_the_page() {
    let page_with = |text: &str| {
        let desk = desk(1 << 20);
        let (message, picture) = (message_full_of(text), jpeg(64));
        desk.receive(&message);
        desk.store.keep_picture(message.data.event, Role::First, &picture.bytes).unwrap();
        desk.page()
    };
    let page = page_with("\"><script>alert(1)</script><img src=x onerror='alert(2)'>");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(!page.contains("<script"), "{page}");
    // Not one tag or quotation mark more than with a harmless text.
    let harmless = page_with("x");
    for mark in ['<', '>', '"', '\''] {
        assert_eq!(page.matches(mark).count(), harmless.matches(mark).count(), "{mark} in {page}");
    }
}

/// A message that says `text` wherever it can.
fn message_full_of(text: &str) -> EventMessage {
    let mut message = message(1, 0);
    let data = &mut message.data;
    data.situation.zh = text.into();
    data.situation.en = text.into();
    data.rule = text.into();
    data.model.version = text.into();
    data.code = Some(Code { set: text.into(), version: text.into(), code: text.into(), name: text.into() });
    data.camera.name = Some(text.into());
    data.camera.address = Some(text.into());
    data.camera.grid = Some(text.into());
    data.camera.class = text.into();
    data.camera.location.as_mut().unwrap().crs = text.into();
    data.objects[0].class = flow::ClassName::new(text);
    data.evidence[0].sha256 = jpeg(64).sha256;
    message
}

#[test]
fn the_page_says_where_what_when_and_that_it_is_a_suspicion() {
    let desk = desk(1 << 20);
    assert!(desk.page().contains("No cases yet"));
    desk.receive(&message(1, 0));
    desk.receive(&message(1, 1));
    let page = desk.page();
    for part in [
        "№ 1",
        "疑似机动车乱停放 <small>suspected illegal parking</small>",
        "商业街东口",
        "朝阳镇商业街 1 号",
        "220523100001",
        "lane",
        "<b>0505</b> 机动车乱停放 <i>cjt214 2005</i>",
        "持续 open",
        "<dd>1 · 立案 opened",
        "car · 88 %",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
}
