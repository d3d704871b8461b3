use super::*;
use proptest::prelude::*;
use serde_json::Value;

fn json(body: &str) -> Result<TopLevel, FieldError> {
    TopLevel::json(body.as_bytes(), Protocol::OpenAi)
}

fn edited(read: &TopLevel, body: &str, model: &str, include_usage: bool) -> String {
    let pieces = read.edited(&Bytes::copy_from_slice(body.as_bytes()), Edit { model, include_usage });
    String::from_utf8(pieces.concat()).unwrap()
}

#[test]
fn it_says_which_model_and_whether_a_stream() {
    let table = [
        (r#"{"model":"a/b","stream":true}"#, Some("a/b"), true),
        (r#" { "stream" : false , "model" : "\u0061\"" } "#, Some("a\""), false),
        (r#"{"stream":null,"messages":[{"model":"x","stream":true}]}"#, None, false),
        ("{}", None, false),
    ];
    for (body, model, stream) in table {
        let read = json(body).unwrap();
        assert_eq!((read.model(), read.stream()), (model, stream), "{body}");
    }
}

#[test]
fn what_may_be_read_in_two_ways_is_refused() {
    let table = [
        (r#"{"model":"a","model":"a"}"#, "model"),
        (r#"{"model":"a","mod\u0065l":"b"}"#, "model"),
        (r#"{"Model":"a","x":{},"model":"b"}"#, "model"),
        (r#"{"stream":true,"stream":false}"#, "stream"),
        (r#"{"stream_options":{},"\u0073tream_options":null}"#, "stream_options"),
        (r#"{"model":1}"#, "model"),
        (r#"{"model":null}"#, "model"),
        (r#"{"model":"\ud800"}"#, "model"),
        (r#"{"stream":1}"#, "stream"),
        (r#"{"stream":"true"}"#, "stream"),
        ("", ""),
        ("[]", ""),
        ("\"model\"", ""),
        (r#"{"model":"a"}x"#, ""),
        (r#"{"model":"a",}"#, ""),
        ("\u{feff}{}", ""),
    ];
    for (body, field) in table {
        assert_eq!(json(body).unwrap_err().field, field, "{body}");
    }
    assert!(TopLevel::json(b"{\"a\":\"\xff\"}", Protocol::OpenAi).is_err());
    assert!(json(r#"{"a":1,"a":2,"model":"m"}"#).is_ok(), "what says nothing of the way may stand twice");
}

#[test]
fn only_the_name_changes() {
    let body = "{ \"a\":1.50,\t\"model\" :\"x\",\"n\":12345678901234567890,\"a\":{\"model\":\"x\"}}\n";
    let read = json(body).unwrap();
    assert_eq!(edited(&read, body, "x", true).len(), body.len() + 40);
    assert_eq!(edited(&read, body, "x", false), body);
    assert_eq!(edited(&read, body, "y\"\n", false), body.replacen("\"x\"", r#""y\"\n""#, 1));
    let nameless = r#"{"a":1}"#;
    assert_eq!(edited(&json(nameless).unwrap(), nameless, "y", false), nameless);
}

#[test]
fn usage_is_asked_for_where_nothing_is_said() {
    let table = [
        (
            r#"{"stream":true,"model":"m"}"#,
            r#"{"stream_options":{"include_usage":true},"stream":true,"model":"n"}"#,
        ),
        (
            r#" {"model":"m","stream_options":null}"#,
            r#" {"model":"n","stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"stream_options":{ },"model":"m"}"#,
            r#"{"stream_options":{"include_usage":true },"model":"n"}"#,
        ),
        (
            r#"{"stream_options":{"include_obfuscation":false},"model":"m"}"#,
            r#"{"stream_options":{"include_usage":true,"include_obfuscation":false},"model":"n"}"#,
        ),
        (
            r#"{"stream_options":{"include_usage":false},"model":"m"}"#,
            r#"{"stream_options":{"include_usage":false},"model":"n"}"#,
        ),
        (r#"{"stream_options":3,"model":"m"}"#, r#"{"stream_options":3,"model":"n"}"#),
    ];
    for (body, expected) in table {
        let read = json(body).unwrap();
        assert_eq!(edited(&read, body, "n", true), expected);
        assert_eq!(read.leaves_usage_open(), expected.len() > body.len(), "{body}");
    }
}

#[test]
fn gemini_repeats_the_name_in_parts() {
    let body = r#"{"requests":[{"model":"models/a","content":{"model":"k"}},{"model":"models/b"},{"model":"models/a"},7],
        "generateContentRequest":{"model":"models/a"},"model":"models/a"}"#;
    let read = TopLevel::json(body.as_bytes(), Protocol::Gemini).unwrap();
    assert_eq!(edited(&read, body, "models/b", false), body.replace("models/a", "models/b"));
    let other = json(body).unwrap();
    let only_the_last = body.replace("\"model\":\"models/a\"}\"", "");
    let end = only_the_last.rfind("models/a").unwrap();
    let expected = format!("{}models/b{}", &body[..end], &body[end + 8..]);
    assert_eq!(edited(&other, body, "models/b", false), expected);
}

const FORM: &str = "multipart/form-data; boundary=--x-1";

/// A form of these heads and contents.
fn form(fields: &[(&str, &str)]) -> String {
    let parts = fields.iter().map(|(head, content)| format!("----x-1\r\n{head}\r\n\r\n{content}\r\n"));
    parts.collect::<String>() + "----x-1--\r\n"
}

fn field(name: &str) -> String {
    format!("Content-Disposition: form-data; name=\"{name}\"")
}

#[test]
fn forms_say_the_same() {
    let file = "content-disposition: form-data; filename=\"a\\\"; name=.wav\"; name=\"file\"\r\nContent-Type: audio/wav";
    let body =
        form(&[(&field("stream"), "True"), (file, "RIFF\r\n--\r\n\r\n--x-1"), (&field("model"), "a/b")]);
    let read = TopLevel::form(body.as_bytes(), FORM).unwrap();
    assert_eq!((read.model(), read.stream()), (Some("a/b"), true));
    assert_eq!(edited(&read, &body, "c", true), body.replace("\r\na/b\r\n", "\r\nc\r\n"));
    assert_eq!(edited(&read, &body, "a/b", false), body);
    let quoted = "Multipart/Form-Data; charset=UTF-8; Boundary=\"--x-1\"";
    assert_eq!(TopLevel::form(body.as_bytes(), quoted), Ok(read));
    let empty = form(&[(&field("model"), "")]);
    assert_eq!(TopLevel::form(empty.as_bytes(), FORM).unwrap().model(), Some(""));
    assert_eq!(TopLevel::form(form(&[]).as_bytes(), FORM).unwrap().model(), None);
}

#[test]
fn forms_that_may_be_read_in_two_ways_are_refused() {
    let good = form(&[(&field("model"), "m")]);
    let model = field("model");
    let table = [
        (form(&[(&model, "m"), (&model, "n")]), "model"),
        (form(&[(&model, "m"), (&field("MODEL"), "n")]), "model"),
        (form(&[(&model, "m"), (&format!("{model}; filename=\"m\""), "n")]), "model"),
        (form(&[(&format!("{model}; filename=\"m\""), "n")]), "model"),
        (form(&[(&format!("{model}\r\nContent-Type: text/plain; charset=utf-16"), "n")]), "model"),
        (form(&[(&format!("{model}\r\nContent-Transfer-Encoding: base64"), "n")]), ""),
        (form(&[(&format!("{model}\r\n{model}"), "n")]), ""),
        (form(&[(&format!("{model}; name=\"other\""), "n")]), ""),
        (form(&[("Content-Disposition: form-data; name*=utf-8''model", "n")]), ""),
        (form(&[("Content-Disposition: form-data; name=\"mod\\el\"", "n")]), ""),
        (form(&[("Content-Disposition: form-data;\r\n name=\"model\"", "n")]), ""),
        (form(&[("Content-Disposition: attachment; name=\"model\"", "n")]), ""),
        (form(&[("Content-Type: text/plain", "n")]), ""),
        (form(&[(&field("stream"), "yes")]), "stream"),
        (form(&[(&field("file"), "a\n----x-1\nb")]), ""),
        (form(&[(&field("file"), "a----x-1")]), ""),
        (good.replace("----x-1--\r\n", ""), ""),
        (good.replace("----x-1--\r\n", "----x-1--more"), ""),
        (good.replace("----x-1--\r\n", "----x-1 \r\n"), ""),
        (format!("preamble\r\n{good}"), ""),
        (format!("\r\n{good}"), ""),
        (good.replace("\r\n", "\n"), ""),
        (form(&vec![("Content-Disposition: form-data; name=\"a\"", ""); 257]), ""),
        (form(&[(&format!("{}\r\nX: {}", field("a"), "x".repeat(9000)), "")]), ""),
        (String::new(), ""),
    ];
    for (body, field) in table {
        let read = TopLevel::form(body.as_bytes(), FORM);
        assert_eq!(read.map_err(|error| error.field), Err(field.to_owned()), "{body}");
    }
    for content_type in [
        "multipart/form-data",
        "multipart/mixed; boundary=--x-1",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=--x-1; boundary=--x-1",
        "multipart/form-data; boundary=--x-1; charset=utf-16",
        "multipart/form-data; a=\"; boundary=--x-1; b=\"",
        "multipart/form-data; boundary=\"--x-1",
        "multipart/form-data; boundary=--x\u{e4}1",
    ] {
        assert!(TopLevel::form(good.as_bytes(), content_type).is_err(), "{content_type}");
    }
}

/// JSON with keys that may stand twice and with odd spaces.
fn any_object() -> impl Strategy<Value = String> {
    let value = r#"(-?[1-9][0-9]{0,30}(\.[0-9]{1,3})?|"([a-z ]|\\[nt"\\]|\\u00[0-9a-f]{2}){0,8}"|null|true|\[\]|\{\})"#;
    let member =
        format!(r#"[ \n\t]{{0,2}}"(model|a|b|stre\\u0061m|x)"[ ]{{0,2}}:[ \n]{{0,2}}{value}[ ]{{0,2}}"#);
    prop::collection::vec(member.prop_regex(), 0..6).prop_map(|members| format!("{{{}}}", members.join(",")))
}

trait Regex {
    fn prop_regex(&self) -> prop::string::RegexGeneratorStrategy<String>;
}

impl Regex for String {
    fn prop_regex(&self) -> prop::string::RegexGeneratorStrategy<String> {
        prop::string::string_regex(self).unwrap()
    }
}

proptest! {
    #[test]
    fn it_agrees_with_serde_json(body in any_object(), name in "[a-z\"\\\\\u{e4}]{0,6}") {
        let value: Value = serde_json::from_str(&body).unwrap();
        let Ok(read) = json(&body) else { return Ok(()) };
        prop_assert_eq!(read.model(), value["model"].as_str());
        prop_assert_eq!(read.stream(), value["stream"] == true);
        let changed = edited(&read, &body, &name, false);
        let mut expected = value.clone();
        if read.model().is_some() {
            expected["model"] = name.clone().into();
        }
        prop_assert_eq!(serde_json::from_str::<Value>(&changed).unwrap(), expected);
        // The same bytes around it.
        let back = edited(&json(&changed).unwrap(), &changed, read.model().unwrap_or_default(), false);
        if !body.contains('\\') {
            prop_assert_eq!(&back, &body);
        }
        if read.leaves_usage_open() {
            let asked: Value = serde_json::from_str(&edited(&read, &body, "m", true)).unwrap();
            prop_assert_eq!(&asked["stream_options"]["include_usage"], true);
        }
    }

    #[test]
    fn any_bytes_are_borne(body in any::<Vec<u8>>(), content_type in "multipart/form-data;[ ]?boundary=.{0,5}") {
        let _ = TopLevel::json(&body, Protocol::Gemini);
        let _ = TopLevel::form(&body, &content_type);
    }

    #[test]
    fn any_file_is_borne(file in any::<Vec<u8>>(), name in "[a-z]{1,8}") {
        let head = format!("----x-1\r\n{}\r\n\r\nm\r\n----x-1\r\n{}\r\n\r\n", field("model"), field("file"));
        let body = [head.as_bytes(), &file, b"\r\n----x-1--\r\n"].concat();
        let read = TopLevel::form(&body, FORM).unwrap();
        let changed = read.edited(&Bytes::from(body), Edit { model: &name, include_usage: false }).concat();
        let head = head.replacen("\r\nm\r\n", &format!("\r\n{name}\r\n"), 1);
        prop_assert_eq!(changed, [head.as_bytes(), &file, b"\r\n----x-1--\r\n"].concat());
    }
}
