// Validates the wire contract with validators that are not ours: AsyncAPI's own parser for the document, ajv for the
// schemas and for messages. Run by `cargo xtask contract` and by the test that captures a real run.
//
//   node validate.mjs CONTRACT_FOLDER GOLDEN_FOLDER [CAPTURED.jsonl]
//
// A line of CAPTURED is {topic, retained, content_type, expiry, properties, payload (hexadecimal), protocol}. Exit code 1 with
// every mistake found, each with file or topic.
import { readFileSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { Parser } from '@asyncapi/parser';
import Ajv from 'ajv';
import addFormats from 'ajv-formats';

const [contract, golden, captured] = process.argv.slice(2);
if (!golden) {
  console.error('usage: node validate.mjs CONTRACT_FOLDER GOLDEN_FOLDER [CAPTURED.jsonl]');
  process.exit(2);
}
const mistakes = [];
const read = (...path) => JSON.parse(readFileSync(join(...path), 'utf8'));

// The document. Severity 0 is an error, 1 a warning; what is only recommended (2, 3) is ours to decide.
const text = readFileSync(join(contract, 'asyncapi.json'), 'utf8');
const { document, diagnostics } = await new Parser().parse(text);
for (const { severity, code, message, path } of diagnostics) {
  if (severity <= 1) mistakes.push(`asyncapi.json: ${code} at ${path.join('.')}: ${message}`);
}
if (!document) mistakes.push('asyncapi.json: is no AsyncAPI document');
const api = JSON.parse(text);

// The schemas. Strict: a keyword or a format that ajv does not know is a mistake, not a comment.
const ajv = new Ajv({ strict: true, allErrors: true });
addFormats(ajv);
const schemas = {};
for (const file of readdirSync(join(contract, 'schemas')).sort()) {
  const schema = read(contract, 'schemas', file);
  if (!ajv.validateSchema(schema)) {
    mistakes.push(`schemas/${file}: ${ajv.errorsText()}`);
    continue;
  }
  schemas[basename(file, '.json')] = ajv.compile(schema);
}
const check = (where, schema, value) => {
  const valid = schemas[schema];
  if (!valid) return mistakes.push(`${where}: there is no schema ${schema}`);
  if (!valid(value)) mistakes.push(`${where}: ${ajv.errorsText(valid.errors, { dataVar: schema })}`);
};
const schemaOf = (message) => message.payload.$ref?.split('/').at(-1);

// The golden files: each is an example of a message, and the same as the document shows.
const examples = {};
for (const message of Object.values(api.components.messages)) {
  for (const { name, payload } of message.examples ?? []) {
    examples[`${name}.json`] = { schema: schemaOf(message), payload };
  }
}
const files = readdirSync(golden).filter((file) => file.endsWith('.json')).sort();
for (const file of files) {
  const example = examples[file];
  if (!example) {
    mistakes.push(`${file}: no message of the contract has this example`);
    continue;
  }
  const value = read(golden, file);
  check(file, example.schema, value);
  if (JSON.stringify(value) !== JSON.stringify(example.payload)) mistakes.push(`${file}: asyncapi.json shows another one`);
}
// A schema that lets everything pass would pass, too.
for (const [schema, broken] of [['EventMessage', {}], ['Receipt', { event: 7 }], ['WorkerStatus', { state: 'asleep' }]]) {
  if (schemas[schema]?.(broken)) mistakes.push(`${schema}: accepts ${JSON.stringify(broken)}`);
}

// What was captured: topic, body and MQTT 5 properties are as the document says.
const counts = {};
if (captured) {
  const channels = Object.entries(api.channels).map(([name, channel]) => {
    const level = (part) => {
      if (part === '{reply}' || part === '{onvif_prefix}') return '.+';
      return part.replaceAll(/\{\w+\}/g, '[A-Za-z0-9._@-]{1,129}');
    };
    const pattern = channel.address.split('/').map(level).join('/');
    const operation = Object.values(api.operations).find((op) => op.channel.$ref === `#/channels/${name}`);
    return { name, pattern: new RegExp(`^${pattern}$`), mqtt: operation?.bindings.mqtt ?? {}, message: api.components.messages[name] };
  });
  for (const [number, line] of readFileSync(captured, 'utf8').split('\n').entries()) {
    if (line) message(`${basename(captured)}:${number + 1}`, JSON.parse(line), channels);
  }
}

function message(where, seen, channels) {
  const channel = channels.find(({ pattern }) => pattern.test(seen.topic));
  if (!channel) return mistakes.push(`${where}: no channel is ${seen.topic}`);
  const { name, mqtt, message } = channel;
  counts[name] = (counts[name] ?? 0) + 1;
  where = `${where} ${seen.topic}`;
  const payload = Buffer.from(seen.payload, 'hex');
  if (seen.retained && !mqtt.retain) mistakes.push(`${where}: is retained`);
  // An open situation is cleared, and a look may be asked for, without a body.
  if (payload.length === 0 && (mqtt.retain || name === 'look')) return;
  const schema = schemaOf(message);
  if (schema) {
    try {
      check(where, schema, JSON.parse(payload));
    } catch (error) {
      mistakes.push(`${where}: ${error.message}`);
    }
  } else if (payload.readUInt16BE(0) !== 0xffd8) {
    mistakes.push(`${where}: is no JPEG`);
  }
  // Others may leave out what Huiyan always sends.
  const ours = Object.values(api.operations).some((op) => op.action === 'send' && op.channel.$ref === `#/channels/${name}`);
  if (!ours || seen.protocol !== 5) return;
  if (seen.content_type !== message.contentType) {
    mistakes.push(`${where}: content type ${seen.content_type}, not ${message.contentType}`);
  }
  if (Boolean(seen.expiry) !== Boolean(mqtt.messageExpiryInterval)) mistakes.push(`${where}: expiry ${seen.expiry}`);
  for (const header of Object.keys(message.headers?.properties ?? {})) {
    if (!seen.properties.split(' ').some((property) => property.startsWith(`${header}:`))) {
      mistakes.push(`${where}: user property ${header} is missing`);
    }
  }
}

if (mistakes.length > 0) {
  console.error(mistakes.map((mistake) => `mistake: ${mistake}`).join('\n'));
  console.error(`${mistakes.length} mistakes`);
  process.exit(1);
}
const heard = Object.entries(counts).map(([name, count]) => `${count} ${name}`).join(', ');
console.log(
  `contract: asyncapi.json, ${Object.keys(schemas).length} schemas and ${files.length} golden files are valid` +
    (captured ? `; captured: ${heard || 'nothing'}` : ''),
);
