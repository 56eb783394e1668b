//! The constants of an ONNX file: as much of its protobuf (`onnx.proto3`) as it takes to find them by name.
//!
//! Not implemented: initialisers, typed data fields, external data, everything that describes computation.

/// `TensorProto.DataType.FLOAT`.
pub const FLOAT: u64 = 1;

/// Graphs nest inside the branches of `If` nodes; a file that nests deeper is not one of ours.
const MAX_DEPTH: usize = 16;

/// The value of a `Constant` node.
pub struct Constant<'a> {
    /// Name of the node's output.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    /// `TensorProto.DataType`.
    pub data_type: u64,
    /// Elements, little-endian.
    pub raw: &'a [u8],
}

/// All constants of the model's graph and of the graphs inside it.
pub fn constants(model: &[u8]) -> Result<Vec<Constant<'_>>, String> {
    let mut found = Vec::new();
    for field in Fields(model) {
        // ModelProto.graph
        if let (7, Value::Bytes(graph)) = field? {
            walk_graph(graph, 0, &mut found)?;
        }
    }
    Ok(found)
}

fn walk_graph<'a>(graph: &'a [u8], depth: usize, found: &mut Vec<Constant<'a>>) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("graphs nest deeper than {MAX_DEPTH}"));
    }
    for field in Fields(graph) {
        // GraphProto.node
        if let (1, Value::Bytes(node)) = field? {
            walk_node(node, depth, found)?;
        }
    }
    Ok(())
}

fn walk_node<'a>(node: &'a [u8], depth: usize, found: &mut Vec<Constant<'a>>) -> Result<(), String> {
    let (mut output, mut operator, mut value) = (None, None, None);
    for field in Fields(node) {
        match field? {
            // NodeProto.output
            (2, Value::Bytes(name)) => output = output.or(Some(name)),
            // NodeProto.op_type
            (4, Value::Bytes(name)) => operator = Some(name),
            // NodeProto.attribute
            (5, Value::Bytes(attribute)) => {
                for field in Fields(attribute) {
                    match field? {
                        // AttributeProto.t
                        (5, Value::Bytes(tensor)) => value = Some(tensor),
                        // AttributeProto.g
                        (6, Value::Bytes(graph)) => walk_graph(graph, depth + 1, found)?,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if let (Some(output), Some(b"Constant"), Some(value)) = (output, operator, value) {
        found.push(constant(String::from_utf8_lossy(output).into_owned(), value)?);
    }
    Ok(())
}

fn constant(name: String, tensor: &[u8]) -> Result<Constant<'_>, String> {
    let mut constant = Constant { name, shape: Vec::new(), data_type: 0, raw: &[] };
    for field in Fields(tensor) {
        match field? {
            // TensorProto.dims, one by one or packed
            (1, Value::Number(dimension)) => constant.shape.push(dimension),
            (1, Value::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    constant.shape.push(varint(&mut packed)?);
                }
            }
            // TensorProto.data_type
            (2, Value::Number(data_type)) => constant.data_type = data_type,
            // TensorProto.raw_data
            (9, Value::Bytes(raw)) => constant.raw = raw,
            _ => {}
        }
    }
    Ok(constant)
}

/// The value of a protobuf field, by wire type.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The fields of one protobuf message: number and value.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u64, Value<'a>), String> {
        let key = varint(&mut self.0)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut self.0)?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = varint(&mut self.0)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            other => return Err(format!("protobuf wire type {other} is not known")),
        };
        Ok((key >> 3, value))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], String> {
        let length = usize::try_from(length).ok().filter(|&length| length <= self.0.len());
        let (taken, rest) = self.0.split_at(length.ok_or("a protobuf field is longer than its message")?);
        self.0 = rest;
        Ok(taken)
    }
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or("a protobuf number is cut off")?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err("a protobuf number is longer than 64 bits".into())
}
