//! Sources that are paths of HTTP, for senders that cannot be changed: what they send, what they are answered, and that
//! sending it again changes nothing.

mod common;

use std::process::{Command, Stdio};

use common::tools::tools;
use common::{Http, Response, Server, Setup};
use serde_json::json;

const RULES: &str = r#"
[entity.application]
key = "event.subject"
[entity.application.fields]
notices = { on = "ApplicationChanged", take = "count" }
income = { on = "ApplicationChanged", take = "sum", value = "decimal(event.data.sObject.Income)" }
owner = { on = "ApplicationChanged", take = "latest", value = "event.data.sObject.?Owner.orValue('nobody')" }
changed = { on = "ApplicationChanged", take = "max", value = "event.time" }
[entity.order]
key = "event.data.order"
[entity.order.fields]
paid = { on = "Paid", take = "sum", value = "event.data.amount" }
seen = { on = "Paid", take = "latest", value = "event.data.?from.orValue('')" }
"#;
/// A CRM's outbound messages: several notifications in one envelope, each with an id of its own.
const CRM: &str = r#"
[source.crm]
kind = "http"
path = "/in/crm"
format = "xml"
each = "body.Envelope.Body.notifications.Notification"
event = { id = "item.Id", type = "'ApplicationChanged'", source = "body.Envelope.Body.notifications.OrganizationId", subject = "item.sObject.Id", time = "item.sObject.SystemModstamp", data = "item" }
respond = { status = 200, content_type = "text/xml; charset=utf-8", body_file = "ack.xml" }
"#;
const ACK: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
    <soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\">\n  <soapenv:Body>\n    \
    <notificationsResponse xmlns=\"http://soap.example.com/2005/09/outbound\"><Ack>true</Ack></notificationsResponse>\n  \
    </soapenv:Body>\n</soapenv:Envelope>\n";

/// An envelope with a notification for each id, application and income.
fn envelope(notifications: &[(&str, &str, &str)]) -> String {
    let each = notifications.iter().map(|(id, application, income)| {
        format!(
            "   <Notification>\n    <Id>{id}</Id>\n    <sObject xsi:type=\"sf:Application__c\" \
             xmlns:sf=\"urn:sobject.example.com\">\n     <sf:Id>{application}</sf:Id>\n     <sf:Income>{income}</sf:Income>\n     \
             <sf:Note>&lt;late &amp; loud&gt;</sf:Note>\n     \
             <sf:SystemModstamp>2026-11-20T10:00:00.000Z</sf:SystemModstamp>\n    </sObject>\n   </Notification>\n"
        )
    });
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<soapenv:Envelope \
         xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\n <soapenv:Body>\n  \
         <notifications xmlns=\"http://soap.example.com/2005/09/outbound\">\n   \
         <OrganizationId>00D1</OrganizationId>\n   <SessionId xsi:nil=\"true\"/>\n{}  </notifications>\n \
         </soapenv:Body>\n</soapenv:Envelope>\n",
        each.collect::<String>()
    )
}

fn crm(setup: Setup) -> Server {
    let mut server = setup.tables(CRM).write();
    std::fs::write(server.path("ack.xml"), ACK).expect("the answer is written");
    server.start();
    server
}

fn post(server: &Server, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    Http::connect(server.http()).request("POST", path, headers, body.as_bytes())
}

const XML: (&str, &str) = ("content-type", "text/xml; charset=UTF-8");

/// A CRM sends again until it gets exactly the answer it expects, and then some. If this failed, one application would be
/// several, or the CRM would never stop.
#[test]
fn a_message_that_is_sent_ten_times_counts_once() {
    let mut server = crm(Setup::new(RULES));
    let body = envelope(&[("n1", "a", "1000.10"), ("n2", "b", "2000"), ("n3", "a", "0.90")]);
    for time in 0..10 {
        let answer = post(&server, "/in/crm", &[XML, ("soapaction", "\"\"")], &body).expect(200);
        assert_eq!(answer.text(), ACK, "time {time}");
        assert_eq!(answer.header("content-type"), Some("text/xml; charset=utf-8"));
        if time == 4 {
            // What was answered so is on the disk.
            server.restart();
        }
    }
    for (key, notices, income) in [("a", 2, "1001"), ("b", 1, "2000")] {
        let entity = server.entity("application", key);
        assert_eq!(entity["fields"]["notices"], notices, "{entity}");
        assert_eq!(entity["fields"]["income"].to_string().trim_end_matches(".0"), income, "{entity}");
        assert_eq!(entity["fields"]["changed"], "2026-11-20T10:00:00Z", "{entity}");
    }
    let accepted = server.metric("turnstile_events_accepted_total{source=\"crm\"}");
    assert_eq!(accepted, Some(15.0), "since the restart");
    let requests = server.metric("turnstile_http_requests_total{code=\"200\",route=\"/in/crm\"}");
    assert_eq!(requests, Some(5.0));
    let status = server.get("/v1/status").json();
    let sources = status["sources"].as_array().expect("sources");
    assert!(sources.iter().any(|source| source["name"] == "crm" && source["path"] == "/in/crm"), "{status}");
    // One alone is no list in XML, and is taken all the same.
    post(&server, "/in/crm", &[XML], &envelope(&[("n4", "c", "1")])).expect(200);
    assert_eq!(server.entity("application", "c")["events"], 1);
}

/// If this failed, a CRM would take what was refused for taken, or what was taken would be lost with what was refused.
#[test]
fn what_is_refused_is_not_acknowledged() {
    let server = crm(Setup::new(RULES));
    let bad = envelope(&[("n1", "a", "1000"), ("n2", "b", "much")]);
    let answer = post(&server, "/in/crm", &[XML], &bad);
    assert_eq!(answer.problem(400), "invalid_value");
    assert_eq!(server.entity("application", "a")["events"], 1, "the other one is taken");
    let mended = envelope(&[("n1", "a", "1000"), ("n2", "b", "2000")]);
    assert_eq!(post(&server, "/in/crm", &[XML], &mended).expect(200).text(), ACK);
    // The same notification with another content is a conflict, and no duplicate.
    let other = envelope(&[("n1", "a", "9"), ("n2", "b", "9")]);
    let answer = post(&server, "/in/crm", &[XML], &other);
    assert_eq!(answer.problem(400), "refused");
    assert_eq!(answer.json()["refused"].as_array().map(Vec::len), Some(2), "{}", answer.text());
    let bomb = "<!DOCTYPE a [<!ENTITY x \"xxxxxxxx\">]><a>&x;</a>";
    for (body, status, code, why) in [
        ("", 400, "invalid_value", "ends too early"),
        ("{}", 400, "invalid_value", "not XML"),
        (bomb, 400, "invalid_value", "document types"),
        ("<Envelope/>", 400, "invalid_value", "`each` of source `crm`"),
        (&"<a>".repeat(65), 400, "too_deep", "64 levels"),
    ] {
        let answer = post(&server, "/in/crm", &[XML], body);
        assert_eq!(answer.problem(status), code, "{body}");
        assert!(answer.text().contains(why), "{body}: {}", answer.text());
    }
    assert_eq!(Http::connect(server.http()).request("GET", "/in/crm", &[], b"").problem(405), "method_not_allowed");
    let refused = server.metric("turnstile_events_refused_total{code=\"conflict\",source=\"crm\"}");
    assert_eq!(refused, Some(2.0));
}

/// If this failed, a sender would take being busy for a refusal, and give up.
#[test]
fn a_busy_server_says_that_it_is_worth_coming_back() {
    let server = crm(Setup::new(RULES).tables("[limits]\ndisk_free_min = \"1000TiB\""));
    let answer = post(&server, "/in/crm", &[XML], &envelope(&[("n1", "a", "1"), ("n2", "a", "1")]));
    assert_eq!(answer.problem(503), "busy");
    assert!(answer.header("retry-after").is_some());
}

/// If this failed, bodies with several events, or what is said beside them, could not be mapped.
#[test]
fn json_is_taken_apart() {
    let tables = r#"
[source.shop]
kind = "http"
path = "/in/shop"
format = "json"
each = "body"
event = { id = "meta.query.batch + '-' + string(item.n)", type = "meta.headers['x-type']", data = "{'order': item.order, 'amount': item.amount, 'from': meta.path + string(size(body))}" }
[source.plain]
kind = "http"
path = "/in/plain"
format = "json"
"#;
    let server = Setup::new(RULES).tables(tables).start();
    let body = json!([{"n": 1, "order": "o", "amount": 10}, {"n": 2, "order": "o", "amount": 5}]).to_string();
    for duplicates in [0, 2] {
        let answer = post(&server, "/in/shop?batch=7", &[("x-type", "Paid")], &body).expect(202).json();
        assert_eq!(
            (&answer["duplicates"], &answer["entities"][0]),
            (&duplicates.into(), &"/v1/entities/order/o".into())
        );
    }
    let entity = server.entity("order", "o");
    assert_eq!((&entity["fields"]["paid"], &entity["fields"]["seen"]), (&15.into(), &"/in/shop2".into()), "{entity}");
    assert_eq!(post(&server, "/in/shop?batch=8", &[], &body).problem(400), "refused", "without the header no type");
    post(&server, "/in/shop?batch=9", &[], "[]").expect(202);
    // Without a mapping, bodies are CloudEvents.
    post(&server, "/in/plain", &[], r#"{"id":"1","type":"Paid","data":{"order":"p","amount":1}}"#).expect(202);
    assert_eq!(server.entity("order", "p")["fields"]["paid"], 1);
    // Many events may not make much of little: each could carry the whole body.
    let tables = tables.replace("data = \"{'order'", "data = \"{'all': body, 'order'");
    let limits = "[limits]\nhttp_body_bytes_max = \"4MiB\"";
    let server = Setup::new(RULES).tables(&tables).tables(limits).start();
    let items: Vec<_> = (0..2000).map(|n| json!({"n": n, "order": "o", "amount": 1})).collect();
    let answer = post(&server, "/in/shop?batch=7", &[("x-type", "Paid")], &json!(items).to_string());
    assert_eq!(answer.problem(413), "too_large");
}

/// If this failed, whoever finds the path could have events taken.
#[test]
fn only_who_may_send_is_heard() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let tables = format!(
        "[source.open]\nkind = \"http\"\npath = \"/in/open\"\nformat = \"json\"\ninsecure = true\n\
         [source.asked]\nkind = \"http\"\npath = \"/in/asked\"\nformat = \"json\"\n\
         [source.signed]\nkind = \"http\"\npath = \"/in/signed\"\nformat = \"json\"\n\
         signature = {{ scheme = \"standard-webhooks\", secret = \"{secret}\" }}\n\
         [source.hub]\nkind = \"http\"\npath = \"/in/hub\"\nformat = \"json\"\nevent = {{ id = \"hash(body)\", \
         type = \"'Paid'\", data = \"{{'order': 'hub', 'amount': size(body)}}\" }}\n\
         signature = {{ scheme = \"github\", secret_file = \"hub\" }}\n"
    );
    let mut server = Setup::new(RULES).http_token("t").tables(&tables).write();
    std::fs::write(server.path("hub"), "It's-a-Secret\n").expect("a file");
    server.start();
    let body = r#"{"id":"1","type":"Paid","data":{"order":"o","amount":1}}"#;
    let token = [("authorization", "Bearer t")];
    post(&server, "/in/open", &[], body).expect(202);
    assert_eq!(post(&server, "/in/asked", &[], body).problem(401), "unauthorized");
    post(&server, "/in/asked", &token, body).expect(202);
    // A signature is asked for whatever token is shown.
    for headers in [&[][..], &token, &[("webhook-id", "m"), ("webhook-timestamp", "1"), ("webhook-signature", "v1,x")]]
    {
        assert_eq!(post(&server, "/in/signed", headers, body).problem(401), "unauthorized", "{headers:?}");
    }
    // openssl makes the signature, so that not the same code signs and looks.
    let signed = Command::new("sh")
        .args([
            "-c",
            "printf %s \"$1\" | openssl dgst -sha256 -hmac \"It's-a-Secret\" -r | cut -d' ' -f1",
            "sh",
            "[1,2]",
        ])
        .stdin(Stdio::null())
        .output()
        .expect("sh runs");
    let signature = format!("sha256={}", String::from_utf8_lossy(&signed.stdout).trim());
    if signature.len() > "sha256=".len() {
        post(&server, "/in/hub", &[("x-hub-signature-256", &signature)], "[1,2]").expect(202);
        assert_eq!(server.entity("order", "hub")["fields"]["paid"], 2);
        assert_eq!(
            post(&server, "/in/hub", &[("x-hub-signature-256", &signature)], "[1,2,3]").problem(401),
            "unauthorized"
        );
    }
    let printed = server.cli(&["check", "--print"]);
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert!(printed.contains("scheme = \"github\"") && !printed.contains("a-Secret") && !printed.contains("whsec_"));

    let Some(bin) = tools() else { return };
    let program = "import sys, datetime, standardwebhooks as s\n\
                   now = datetime.datetime.now(tz=datetime.timezone.utc)\n\
                   print(int(now.timestamp()), s.Webhook(sys.argv[1]).sign('m', now, sys.argv[2]))";
    let signed = Command::new(bin.join("python")).args(["-c", program, secret, body]).output().expect("python runs");
    let signed = String::from_utf8_lossy(&signed.stdout).into_owned();
    let (time, signature) = signed.trim().split_once(' ').expect("a time and a signature");
    let headers = [("webhook-id", "m"), ("webhook-timestamp", time), ("webhook-signature", signature)];
    post(&server, "/in/signed", &headers, body).expect(202);
    assert_eq!(post(&server, "/in/signed", &headers, &body.replace(":1}", ":2}")).problem(401), "unauthorized");
}

/// If this failed, a wrong name in a mapping would only be found by what it makes of events.
#[test]
fn expressions_are_looked_at_before_the_start() {
    for (each, id, what) in [
        ("item.list", "item.id", "unknown name `item`"),
        ("bodi.list", "item.id", "did you mean `body`?"),
        ("body.list", "row.id", "this expression reads `item`, `body` and `meta`"),
    ] {
        let tables = format!(
            "[source.a]\nkind = \"http\"\npath = \"/in/a\"\nformat = \"json\"\neach = \"{each}\"\nevent = {{ id = \"{id}\" }}"
        );
        let ended = Setup::new(RULES).tables(&tables).write().run_to_end();
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.code() == Some(2) && told.contains(what), "{each}: {told}");
    }
}
