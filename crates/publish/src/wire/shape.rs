//! How the texts and numbers of the messages look in JSON Schema, where a type does not say it by itself.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// A type that exists for its schema, which is written in place.
macro_rules! shape {
    ($(#[$doc:meta])* $name:ident, $schema:tt) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

shape!(
    /// An id of a camera, zone, situation, model, site or worker (`flow::IdError` says the same).
    Id, { "type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$" }
);
shape!(
    /// An event id (RFC 9562).
    Event, { "type": "string", "format": "uuid" }
);
shape!(
    /// A moment in UTC (RFC 3339).
    Time, { "type": "string", "format": "date-time" }
);
shape!(
    /// A number from 0 to 1.
    Share, { "type": "number", "minimum": 0, "maximum": 1 }
);
shape!(
    /// A detector's class.
    Class, { "type": "string", "minLength": 1 }
);
shape!(
    /// `[x0, y0, x1, y1]`.
    Corners, {
        "type": "array", "items": { "type": "number", "minimum": 0, "maximum": 1 }, "minItems": 4, "maxItems": 4
    }
);
shape!(
    /// SHA-256 in lower-case hexadecimal.
    Sha256, { "type": "string", "pattern": "^[0-9a-f]{64}$" }
);
shape!(
    /// RFC 4648 section 4.
    Base64, { "type": "string", "pattern": "^[A-Za-z0-9+/]*={0,2}$" }
);
shape!(
    /// CloudEvents' version.
    One, { "type": "string", "const": "1.0" }
);
shape!(
    /// A CloudEvents id of ours: event id and sequence number.
    Message, {
        "type": "string",
        "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\\.[0-9]+$"
    }
);
shape!(
    /// A CloudEvents source of ours: `/{site}/{worker}`.
    Source, { "type": "string", "pattern": "^/[A-Za-z0-9._-]{1,64}/[A-Za-z0-9._-]{1,64}$" }
);
shape!(
    /// How `data` is coded.
    Json, { "type": "string", "const": "application/json" }
);
shape!(
    /// A media type (RFC 6838).
    MediaType, { "type": "string", "pattern": "^[a-z]+/[a-z0-9.+-]+$" }
);
shape!(
    /// The one kind of picture in an answer.
    Jpeg, { "type": "string", "const": "image/jpeg" }
);
shape!(
    /// W3C Trace Context, version 00.
    Trace, { "type": "string", "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$" }
);
