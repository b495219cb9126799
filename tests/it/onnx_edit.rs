//! Changes ONNX graphs in memory, so that one stored model stands for the many signatures that published ones have.
//!
//! A graph is a protocol buffer: fields of a number, a kind and a value. What is not changed is copied as it is.

use std::path::Path;

/// Field numbers of `ModelProto`, `GraphProto`, `NodeProto`, `ValueInfoProto` and `TensorProto` in onnx.proto.
const MODEL_GRAPH: u64 = 7;
const GRAPH_NODE: u64 = 1;
const GRAPH_WEIGHT: u64 = 5;
const GRAPH_INPUT: u64 = 11;
const NODE_INPUT: u64 = 1;
const VALUE_NAME: u64 = 1;
const TENSOR_RAW: u64 = 9;

/// Element types of onnx.proto.
pub(crate) const FLOAT: u64 = 1;
pub(crate) const INT64: u64 = 7;

/// One field: its number, and its value with or without a length before it.
struct Field {
    number: u64,
    value: Value,
}

enum Value {
    Number(u64),
    Bytes(Vec<u8>),
    /// Eight or four bytes, copied.
    Fixed(u64, Vec<u8>),
}

fn number(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for place in 0.. {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(bytes: &mut &[u8], len: usize) -> Vec<u8> {
    let (head, rest) = bytes.split_at(len);
    *bytes = rest;
    head.to_vec()
}

fn read(mut bytes: &[u8]) -> Vec<Field> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = number(&mut bytes);
        let value = match key & 7 {
            0 => Value::Number(number(&mut bytes)),
            2 => {
                let len = number(&mut bytes) as usize;
                Value::Bytes(take(&mut bytes, len))
            }
            1 => Value::Fixed(1, take(&mut bytes, 8)),
            5 => Value::Fixed(5, take(&mut bytes, 4)),
            kind => panic!("no field is of kind {kind}"),
        };
        fields.push(Field { number: key >> 3, value });
    }
    fields
}

fn write(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields {
        match &field.value {
            Value::Number(value) => {
                put(&mut out, field.number << 3);
                put(&mut out, *value);
            }
            Value::Bytes(bytes) => {
                put(&mut out, field.number << 3 | 2);
                put(&mut out, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            Value::Fixed(kind, bytes) => {
                put(&mut out, field.number << 3 | kind);
                out.extend_from_slice(bytes);
            }
        }
    }
    out
}

fn bytes(number: u64, value: impl Into<Vec<u8>>) -> Field {
    Field { number, value: Value::Bytes(value.into()) }
}

fn int(number: u64, value: u64) -> Field {
    Field { number, value: Value::Number(value) }
}

fn is(field: &Field, number: u64, value: &[u8]) -> bool {
    field.number == number && matches!(&field.value, Value::Bytes(bytes) if bytes == value)
}

/// Rewrites the graph of a model file.
fn edit(path: &Path, change: impl FnOnce(&mut Vec<Field>)) {
    let mut model = read(&std::fs::read(path).unwrap());
    let graph = model.iter_mut().find(|field| field.number == MODEL_GRAPH).unwrap();
    let Value::Bytes(inner) = &mut graph.value else { panic!("a graph is bytes") };
    let mut fields = read(inner);
    change(&mut fields);
    *inner = write(&fields);
    std::fs::write(path, write(&model)).unwrap();
}

/// Makes `timestep` an input of this element type and shape; a cast hands on what the graph wanted before (`was`).
pub(crate) fn retype_timestep(path: &Path, (element, was): (u64, u64), dims: &[&str]) {
    edit(path, |graph| {
        for node in graph.iter_mut().filter(|field| field.number == GRAPH_NODE) {
            let Value::Bytes(inner) = &mut node.value else { continue };
            let mut fields = read(inner);
            for input in fields.iter_mut().filter(|field| is(field, NODE_INPUT, b"timestep")) {
                *input = bytes(NODE_INPUT, "timestep_as_was");
            }
            *inner = write(&fields);
        }
        // name "to", integer, of the attribute kind INT
        let to = write(&[bytes(1, "to"), int(3, was), int(20, 2)]);
        let cast = [bytes(1, "timestep"), bytes(2, "timestep_as_was"), bytes(4, "Cast"), bytes(5, to)];
        let first = graph.iter().position(|field| field.number == GRAPH_NODE).unwrap();
        graph.insert(first, bytes(GRAPH_NODE, write(&cast)));
        let dims: Vec<Field> = dims.iter().map(|dim| bytes(1, write(&[bytes(2, *dim)]))).collect();
        let tensor = write(&[int(1, element), bytes(2, write(&dims))]);
        let value = write(&[bytes(VALUE_NAME, "timestep"), bytes(2, write(&[bytes(1, tensor)]))]);
        for input in graph.iter_mut().filter(|field| field.number == GRAPH_INPUT) {
            let Value::Bytes(inner) = &mut input.value else { continue };
            if read(inner).iter().any(|field| is(field, VALUE_NAME, b"timestep")) {
                inner.clone_from(&value);
            }
        }
    });
}

/// Moves the weights of a graph to a file beside it.
pub(crate) fn move_weights_out(path: &Path, sidecar: &str) {
    let mut outside = Vec::new();
    edit(path, |graph| {
        for weight in graph.iter_mut().filter(|field| field.number == GRAPH_WEIGHT) {
            let Value::Bytes(inner) = &mut weight.value else { continue };
            let mut fields = read(inner);
            let Some(at) = fields.iter().position(|field| field.number == TENSOR_RAW) else { continue };
            let Value::Bytes(raw) = fields.remove(at).value else { continue };
            let entries = [("location", sidecar.to_owned()), ("offset", outside.len().to_string())];
            for (key, value) in entries.into_iter().chain([("length", raw.len().to_string())]) {
                fields.push(bytes(13, write(&[bytes(1, key), bytes(2, value)])));
            }
            fields.push(int(14, 1));
            outside.extend_from_slice(&raw);
            *inner = write(&fields);
        }
    });
    assert!(outside.len() > 10_000, "the graph has its weights elsewhere");
    std::fs::write(path.with_file_name(sidecar), outside).unwrap();
}
