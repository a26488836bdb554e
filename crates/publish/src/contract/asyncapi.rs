//! The AsyncAPI 3.0 document.

use serde_json::{Map, Value, json};

use super::channels::{Body, CHANNELS, Channel, Direction, PARAMETERS};
use super::schemas;
use crate::wire::ROOT;

/// Version of the MQTT binding that is used.
const BINDING: &str = "0.2.0";

/// The whole document; it refers to nothing outside of itself.
pub(super) fn document() -> Value {
    json!({
        "asyncapi": "3.0.0",
        "info": info(),
        "defaultContentType": "application/json",
        "servers": { "broker": server() },
        "channels": CHANNELS.iter().map(|c| (c.name.to_owned(), channel(c))).collect::<Map<_, _>>(),
        "operations": CHANNELS.iter().filter_map(operation).collect::<Map<_, _>>(),
        "components": {
            "messages": CHANNELS.iter().map(|c| (c.name.to_owned(), message(c))).collect::<Map<_, _>>(),
            "schemas": schemas::components(),
        },
    })
}

fn info() -> Value {
    json!({
        "title": "Huiyan 慧眼",
        // The topics' root carries the same number.
        "version": ROOT.rsplit('v').next(),
        "description": "Situations that a city's cameras show, and what others say about them, over MQTT. Operations are \
            named from Huiyan's side: what it sends is for you to subscribe to. Rules of change: a field may be added, and \
            receivers ignore what they do not know; a field that goes or changes its meaning makes a new version of the \
            topic root and of the event types. Every text calls a situation 疑似 / suspected: a person decides.",
        "license": { "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0" },
    })
}

fn server() -> Value {
    json!({
        "host": "127.0.0.1:1883",
        "protocol": "mqtt",
        "protocolVersion": "5.0",
        "description": "The broker of the configuration (`broker.url`). With MQTT 3.1.1 the same topics and bodies come \
            without properties: no content type, no expiry, no user properties, no response topic.",
        "bindings": { "mqtt": {
            "clientId": "huiyan-{site}-{worker}",
            "lastWill": {
                "topic": format!("{ROOT}/{{site}}/worker/{{worker}}/status"),
                "qos": 1,
                "retain": true,
                "message": "{\"state\":\"offline\",…}: as message worker",
            },
            "keepAlive": 10,
            "bindingVersion": BINDING,
        } },
    })
}

fn channel(channel: &Channel) -> Value {
    let topic = channel.topic();
    let used = PARAMETERS.iter().filter(|(name, _)| topic.contains(&format!("{{{name}}}")));
    let parameters: Map<_, _> =
        used.map(|(name, doc)| ((*name).to_owned(), json!({ "description": doc }))).collect();
    let reference = format!("#/components/messages/{}", channel.name);
    json!({
        "address": topic,
        "title": channel.title,
        "description": channel.doc,
        "messages": { channel.name: { "$ref": reference } },
        "parameters": parameters,
    })
}

/// A reply is part of the request's operation.
fn operation(channel: &Channel) -> Option<(String, Value)> {
    if CHANNELS.iter().any(|other| other.reply == Some(channel.name)) {
        return None;
    }
    let (action, verb) = match channel.direction {
        Direction::Written => ("send", "send"),
        Direction::Read => ("receive", "receive"),
    };
    let mut operation = json!({
        "action": action,
        "channel": { "$ref": format!("#/channels/{}", channel.name) },
        "summary": channel.title,
        "messages": [{ "$ref": format!("#/channels/{0}/messages/{0}", channel.name) }],
        "bindings": { "mqtt": { "qos": 1, "retain": channel.retained, "bindingVersion": BINDING } },
    });
    if channel.expires {
        // `broker.message_expiry`; this is its default.
        operation["bindings"]["mqtt"]["messageExpiryInterval"] = json!(86_400);
    }
    if let Some(reply) = channel.reply {
        operation["reply"] = json!({
            "address": {
                "description": "The response topic (MQTT 5), or reply_to of the payload.",
                "location": "$message.payload#/reply_to",
            },
            "channel": { "$ref": format!("#/channels/{reply}") },
            "messages": [{ "$ref": format!("#/channels/{reply}/messages/{reply}") }],
        });
    }
    let name = channel.name;
    Some((format!("{verb}{}{}", name[..1].to_uppercase(), &name[1..]), operation))
}

fn message(channel: &Channel) -> Value {
    let (payload, text) = match channel.body {
        Body::Json(schema) => (json!({ "$ref": format!("#/components/schemas/{schema}") }), 1),
        Body::Jpeg => (json!({ "type": "string", "format": "binary", "contentMediaType": "image/jpeg" }), 0),
    };
    let mut message = json!({
        "name": channel.name,
        "title": channel.title,
        "contentType": channel.content_type,
        "payload": payload,
        "bindings": { "mqtt": { "payloadFormatIndicator": text, "bindingVersion": BINDING } },
    });
    if !channel.headers.is_empty() {
        let header = |(name, doc): &(&str, &str)| {
            ((*name).to_owned(), json!({ "type": "string", "description": doc }))
        };
        let properties: Map<_, _> = channel.headers.iter().map(header).collect();
        message["headers"] = json!({
            "type": "object",
            "description": "MQTT 5 user properties.",
            "properties": properties,
        });
    }
    if !channel.examples.is_empty() {
        let example = |(name, text): &(&str, &str)| {
            let payload: Value =
                serde_json::from_str(text).expect("golden files are JSON: a test reads them");
            json!({ "name": name, "payload": payload })
        };
        message["examples"] = channel.examples.iter().map(example).collect();
    }
    message
}
