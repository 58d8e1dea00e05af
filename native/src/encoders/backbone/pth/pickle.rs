//! Python's pickle format, read as data: nothing in it is run. Protocols 0 to 5.
//!
//! Everything lies in one list of nodes that name each other by number, so neither reading nor dropping them recurses. Each
//! operation makes at most one node, and texts stay in the file: a pickle of n bytes takes at most some 150 n bytes of memory.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use serde_json::Value as Json;

/// Most values, and most lists in each other, of plain data.
const MOST_PLAIN: usize = 10_000;
const DEEPEST_PLAIN: usize = 32;

/// A value. Copying it copies a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// A number or bytes that nothing needs.
    Other,
    /// `None`.
    Nothing,
    /// A truth value.
    Bool(bool),
    /// A number with a fraction.
    Float(f64),
    /// A whole number.
    Int(i64),
    /// A text, or bytes.
    Text(&'a str),
    /// A node by its number.
    Node(usize),
}

/// A value that holds others.
#[derive(Clone, Debug)]
pub(super) enum Node<'a> {
    /// A tuple, list or set.
    Sequence(Vec<Value<'a>>),
    /// A dictionary, in the order of the file.
    Dict(Vec<(Value<'a>, Value<'a>)>),
    /// A class or function by its name, without its module.
    Global(&'a str),
    /// The result of a call: what was called, and its arguments.
    Call(Value<'a>, Value<'a>),
    /// A reference to something outside of the pickle.
    Persistent(Value<'a>),
}

/// A whole pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    /// The value that was pickled.
    pub(super) root: Value<'a>,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle at the start of some bytes, and says how many of them it is.
    ///
    /// # Errors
    /// If an operation is unknown, or its operands are missing.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<(Self, usize)> {
        let mut machine = Machine {
            bytes,
            at: 0,
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            copied: 0,
        };
        while machine.step().with_context(|| format!("at byte {}", machine.at))? {}
        let root = machine.pop()?;
        Ok((Self { nodes: machine.nodes, root }, machine.at))
    }

    /// The node of a value that holds others.
    pub(super) fn node(&self, value: Value<'a>) -> Option<&Node<'a>> {
        match value {
            Value::Node(number) => self.nodes.get(number),
            _ => None,
        }
    }

    /// The items of a tuple or list.
    pub(super) fn sequence(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match self.node(value)? {
            Node::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// The entries of a dictionary.
    pub(super) fn dict(&self, value: Value<'a>) -> Option<&[(Value<'a>, Value<'a>)]> {
        match self.node(value)? {
            Node::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value under a key of a dictionary.
    pub(super) fn entry(&self, value: Value<'a>, key: &str) -> Option<Value<'a>> {
        self.dict(value)?.iter().find(|(found, _)| *found == Value::Text(key)).map(|&(_, value)| value)
    }

    /// Name and class of every storage that is referred to.
    pub(super) fn storages(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.nodes.iter().filter_map(|node| {
            let &Node::Persistent(storage) = node else { return None };
            let &[_, class, Value::Text(name), ..] = self.sequence(storage)? else { return None };
            Some((name, self.global(class)?))
        })
    }

    /// Plain data: dictionaries with texts as keys, lists, tuples, texts, numbers, truth values. Other objects are `null`.
    ///
    /// # Errors
    /// If it is larger than settings are: a pickle may hold one list many times, or in itself.
    pub(super) fn json(&self, value: Value<'a>) -> Result<Json> {
        let mut left = MOST_PLAIN;
        self.plain(value, &mut left, 0)
    }

    fn plain(&self, value: Value<'a>, left: &mut usize, depth: usize) -> Result<Json> {
        if *left == 0 || depth > DEEPEST_PLAIN {
            bail!("its settings are too large");
        }
        *left -= 1;
        Ok(match value {
            Value::Other | Value::Nothing => Json::Null,
            Value::Bool(value) => value.into(),
            Value::Int(value) => value.into(),
            Value::Float(value) => value.into(),
            Value::Text(value) => value.into(),
            Value::Node(number) => match &self.nodes[number] {
                Node::Sequence(items) => {
                    items.iter().map(|&item| self.plain(item, left, depth + 1)).collect::<Result<_>>()?
                }
                Node::Dict(entries) => {
                    let entry = |&(key, value): &(Value<'a>, Value<'a>)| match key {
                        Value::Text(key) => {
                            self.plain(value, left, depth + 1).map(|value| Some((key.to_owned(), value))).transpose()
                        }
                        _ => None,
                    };
                    Json::Object(entries.iter().filter_map(entry).collect::<Result<_>>()?)
                }
                Node::Global(_) | Node::Call(..) | Node::Persistent(_) => Json::Null,
            },
        })
    }

    /// Name of a class or function.
    pub(super) fn global(&self, value: Value<'a>) -> Option<&'a str> {
        match self.node(value)? {
            Node::Global(name) => Some(name),
            _ => None,
        }
    }
}

/// The machine that a pickle is a program for, without calls.
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node<'a>>,
    stack: Vec<Value<'a>>,
    /// Heights of the stack at its marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Value<'a>>,
    /// Number of entries that were copied from lists to dictionaries.
    copied: usize,
}

impl<'a> Machine<'a> {
    /// Runs one operation; `false` after the last.
    fn step(&mut self) -> Result<bool> {
        let operation = self.take(1)?[0];
        match operation {
            b'.' => return Ok(false),
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => self.push(*self.stack.last().context("the stack is empty")?),
            // Values.
            b'N' => self.push(Value::Nothing),
            0x88 | 0x89 => self.push(Value::Bool(operation == 0x88)),
            b'I' => {
                let value = match self.line()? {
                    "01" => Value::Bool(true),
                    "00" => Value::Bool(false),
                    number => number.parse().map_or(Value::Other, Value::Int),
                };
                self.push(value);
            }
            b'L' => {
                let value = self.line()?.trim_end_matches('L').parse().map_or(Value::Other, Value::Int);
                self.push(value);
            }
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(value.into()));
            }
            b'K' => self.push_int(1)?,
            b'M' => self.push_int(2)?,
            0x8a => self.push_long(1)?,
            0x8b => self.push_long(4)?,
            b'F' => {
                let value = self.line()?.parse().map_or(Value::Other, Value::Float);
                self.push(value);
            }
            b'G' => {
                let value = f64::from_be_bytes(self.array()?);
                self.push(Value::Float(value));
            }
            b'S' => {
                let text = self.line()?;
                let quoted = ['\'', '"'].into_iter().find_map(|q| text.strip_prefix(q)?.strip_suffix(q));
                self.push(Value::Text(quoted.context("a text without quotes")?));
            }
            b'V' => {
                let text = self.line()?;
                self.push(Value::Text(text));
            }
            b'U' | b'C' | 0x8c => self.push_text(1)?,
            b'T' | b'B' | b'X' => self.push_text(4)?,
            0x8d | 0x8e | 0x96 => self.push_text(8)?,
            0x97 => self.push(Value::Other),
            0x98 => {}
            // Containers.
            b')' | b']' | 0x8f => self.push_node(Node::Sequence(Vec::new())),
            b'}' => self.push_node(Node::Dict(Vec::new())),
            b't' | b'l' | 0x91 => {
                let items = self.pop_mark()?;
                self.push_node(Node::Sequence(items));
            }
            b'd' => {
                let items = self.pop_mark()?;
                self.push_node(Node::Dict(pairs(&items)));
            }
            0x85..=0x87 => {
                let count = usize::from(operation - 0x84);
                let from = self.stack.len().checked_sub(count).context("the stack is too short")?;
                let items = self.stack.split_off(from);
                self.push_node(Node::Sequence(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![(key, value)])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set(pairs(&items))?;
            }
            // The memo.
            b'p' => {
                let number = self.line()?.parse().context("a memo without number")?;
                self.put(number)?;
            }
            b'q' => {
                let number = self.number(1)?;
                self.put(number)?;
            }
            b'r' => {
                let number = self.number(4)?;
                self.put(number)?;
            }
            0x94 => self.put(self.memo.len() as u64)?,
            b'g' => {
                let number = self.line()?.parse().context("a memo without number")?;
                self.get(number)?;
            }
            b'h' => {
                let number = self.number(1)?;
                self.get(number)?;
            }
            b'j' => {
                let number = self.number(4)?;
                self.get(number)?;
            }
            // Classes and calls.
            b'c' => {
                let (_, name) = (self.line()?, self.line()?);
                self.push_node(Node::Global(name));
            }
            0x93 => {
                let (Value::Text(name), Value::Text(_)) = (self.pop()?, self.pop()?) else {
                    bail!("a class without name");
                };
                self.push_node(Node::Global(name));
            }
            b'P' => {
                let name = self.line()?;
                self.push_node(Node::Persistent(Value::Text(name)));
            }
            b'Q' => {
                let what = self.pop()?;
                self.push_node(Node::Persistent(what));
            }
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.call(callable, arguments)?;
            }
            0x92 => {
                let (_, arguments, callable) = (self.pop()?, self.pop()?, self.pop()?);
                self.call(callable, arguments)?;
            }
            b'i' => {
                let (_, name) = (self.line()?, self.line()?);
                let items = self.pop_mark()?;
                let callable = self.add(Node::Global(name));
                let arguments = self.add(Node::Sequence(items));
                self.call(callable, arguments)?;
            }
            b'o' => {
                let mut items = self.pop_mark()?;
                if items.is_empty() {
                    bail!("an object without class");
                }
                let callable = items.remove(0);
                let arguments = self.add(Node::Sequence(items));
                self.call(callable, arguments)?;
            }
            // The state of an object says nothing about its tensors.
            b'b' => drop(self.pop()?),
            other => bail!("operation {other:#04x} is not known"),
        }
        Ok(true)
    }

    fn call(&mut self, callable: Value<'a>, arguments: Value<'a>) -> Result<()> {
        let name = match callable {
            Value::Node(number) => match self.nodes[number] {
                Node::Global(name) => name,
                _ => "",
            },
            _ => "",
        };
        if !["OrderedDict", "defaultdict", "dict"].contains(&name) {
            self.push_node(Node::Call(callable, arguments));
            return Ok(());
        }
        // An ordered dictionary may be given its entries as a list of pairs.
        let first = self.items(arguments).first().copied().unwrap_or(Value::Other);
        self.copied += self.items(first).len();
        if self.copied > self.bytes.len() {
            bail!("its dictionaries have more entries than it has bytes");
        }
        let entries = self.items(first).iter().filter_map(|&pair| match self.items(pair)[..] {
            [key, value] => Some((key, value)),
            _ => None,
        });
        let entries = entries.collect();
        self.push_node(Node::Dict(entries));
        Ok(())
    }

    /// The items of a tuple or list; none of other values.
    fn items(&self, value: Value<'a>) -> &[Value<'a>] {
        match value {
            Value::Node(number) => match &self.nodes[number] {
                Node::Sequence(items) => items,
                _ => &[],
            },
            _ => &[],
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len()).context("it ends too early")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    /// An unsigned number of up to eight bytes.
    fn number(&mut self, bytes: usize) -> Result<u64> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// The text up to the end of the line.
    fn line(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n').context("a line without end")?;
        self.at += length + 1;
        Ok(std::str::from_utf8(&rest[..length])?)
    }

    fn push(&mut self, value: Value<'a>) {
        self.stack.push(value);
    }

    fn add(&mut self, node: Node<'a>) -> Value<'a> {
        self.nodes.push(node);
        Value::Node(self.nodes.len() - 1)
    }

    fn push_node(&mut self, node: Node<'a>) {
        let value = self.add(node);
        self.push(value);
    }

    fn push_int(&mut self, bytes: usize) -> Result<()> {
        let number = self.number(bytes)?;
        self.push(number.try_into().map_or(Value::Other, Value::Int));
        Ok(())
    }

    /// A signed number with its length in bytes before it. A longer one than eight bytes is no size of a tensor.
    fn push_long(&mut self, length: usize) -> Result<()> {
        let length = usize::try_from(self.number(length)?)?;
        let bytes = self.take(length)?;
        let value = match bytes.last() {
            None => Value::Int(0),
            Some(last) if length <= 8 => {
                let mut all = [if last & 0x80 == 0 { 0 } else { 0xFF }; 8];
                all[..length].copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(all))
            }
            Some(_) => Value::Other,
        };
        self.push(value);
        Ok(())
    }

    /// A text with its length before it. Bytes that are no text have no meaning for tensors.
    fn push_text(&mut self, length: usize) -> Result<()> {
        let length = usize::try_from(self.number(length)?)?;
        let bytes = self.take(length)?;
        self.push(std::str::from_utf8(bytes).map_or(Value::Other, Value::Text));
        Ok(())
    }

    fn pop(&mut self) -> Result<Value<'a>> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(Value::Other);
        }
        self.stack.pop().context("the stack is empty")
    }

    fn pop_mark(&mut self) -> Result<Vec<Value<'a>>> {
        let mark = self.marks.pop().context("there is no mark")?;
        if mark > self.stack.len() {
            bail!("the mark lies above the stack");
        }
        Ok(self.stack.split_off(mark))
    }

    fn append(&mut self, items: Vec<Value<'a>>) -> Result<()> {
        let top = *self.stack.last().context("the stack is empty")?;
        if let Value::Node(number) = top
            && let Node::Sequence(list) = &mut self.nodes[number]
        {
            list.extend(items);
        }
        Ok(())
    }

    fn set(&mut self, entries: Vec<(Value<'a>, Value<'a>)>) -> Result<()> {
        let top = *self.stack.last().context("the stack is empty")?;
        if let Value::Node(number) = top
            && let Node::Dict(dict) = &mut self.nodes[number]
        {
            dict.extend(entries);
        }
        Ok(())
    }

    fn put(&mut self, number: u64) -> Result<()> {
        self.memo.insert(number, *self.stack.last().context("the stack is empty")?);
        Ok(())
    }

    fn get(&mut self, number: u64) -> Result<()> {
        let value = *self.memo.get(&number).with_context(|| format!("memo {number} is missing"))?;
        self.push(value);
        Ok(())
    }
}

fn pairs<'a>(items: &[Value<'a>]) -> Vec<(Value<'a>, Value<'a>)> {
    items.as_chunks::<2>().0.iter().map(|&[key, value]| (key, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{'a': [1, -2, 300], 'b': (None, 'x')}` by Python's `pickle.dumps` with protocols 0 to 4.
    const DUMPS: [&[u8]; 5] = [
        b"(dp0\nVa\np1\n(lp2\nI1\naI-2\naI300\nasVb\np3\n(NVx\np4\ntp5\ns.",
        b"}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffM,\x01eX\x01\x00\x00\x00bq\x03(NX\x01\x00\x00\x00xq\x04tq\x05u.",
        b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffM,\x01eX\x01\x00\x00\x00bq\x03NX\x01\x00\x00\x00xq\x04\x86q\x05u.",
        b"\x80\x03}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffM,\x01eX\x01\x00\x00\x00bq\x03NX\x01\x00\x00\x00xq\x04\x86q\x05u.",
        b"\x80\x04\x95\x22\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94]\x94(K\x01J\xfe\xff\xff\xffM,\x01e\x8c\x01b\x94N\x8c\x01x\x94\x86\x94u.",
    ];

    #[test]
    fn every_protocol_gives_the_same() {
        for (protocol, dump) in DUMPS.into_iter().enumerate() {
            let (pickle, _) = Pickle::parse(dump).unwrap();
            let entries = pickle.dict(pickle.root).unwrap();
            let keys: Vec<_> = entries.iter().map(|(key, _)| *key).collect();
            assert_eq!(keys, [Value::Text("a"), Value::Text("b")], "protocol {protocol}");
            let numbers = [1, -2, 300].map(Value::Int);
            assert_eq!(pickle.sequence(entries[0].1).unwrap(), numbers, "protocol {protocol}");
            assert_eq!(
                pickle.sequence(entries[1].1).unwrap(),
                [Value::Nothing, Value::Text("x")],
                "protocol {protocol}"
            );
        }
    }

    #[test]
    fn a_pickle_cut_off_anywhere_is_an_error() {
        for dump in DUMPS {
            for length in 0..dump.len() {
                let error = Pickle::parse(&dump[..length]).unwrap_err();
                assert!(format!("{error:#}").contains("at byte"), "{error:#}");
            }
        }
    }

    #[test]
    fn damage_is_an_error_or_another_value() {
        for dump in DUMPS {
            for at in 0..dump.len() {
                for byte in 0..=255 {
                    let mut damaged = dump.to_vec();
                    damaged[at] = byte;
                    let _ = Pickle::parse(&damaged);
                }
            }
        }
    }

    #[test]
    fn an_ordered_dictionary_is_a_dictionary() {
        let dump = b"\x80\x02ccollections\nOrderedDict\n]((X\x01\x00\x00\x00aK\x01le\x85R(X\x01\x00\x00\x00bK\x02u.";
        let (pickle, _) = Pickle::parse(dump).unwrap();
        let expected = [(Value::Text("a"), Value::Int(1)), (Value::Text("b"), Value::Int(2))];
        assert_eq!(pickle.dict(pickle.root).unwrap(), expected);
    }

    #[test]
    fn copies_of_one_list_are_bounded() {
        let list = b"\x80\x02ccollections\nOrderedDict\nq\x00](KKKKe".to_vec();
        let copy = [&b"q\x01"[..], &b"h\x00h\x01\x85R0".repeat(40)].concat();
        let many = [&list[..list.len() - 1], &b"K\x01".repeat(60), b"e", &copy, b"."].concat();
        assert!(format!("{:#}", Pickle::parse(&many).unwrap_err()).contains("more entries than it has bytes"));
    }

    #[test]
    fn plain_data_becomes_json() {
        // pickle.dumps([1, 0.5, None, True, "x", (2,), {"a": [False]}, 1j], protocol 2)
        let dump =
            b"\x80\x02](K\x01G?\xe0\x00\x00\x00\x00\x00\x00N\x88X\x01\x00\x00\x00xK\x02\x85}X\x01\x00\x00\x00a]\x89as\
            c__builtin__\ncomplex\nG\x00\x00\x00\x00\x00\x00\x00\x00G?\xf0\x00\x00\x00\x00\x00\x00\x86Re.";
        let (pickle, _) = Pickle::parse(dump).unwrap();
        let expected = serde_json::json!([1, 0.5, null, true, "x", [2], {"a": [false]}, null]);
        assert_eq!(pickle.json(pickle.root).unwrap(), expected);
        // A list that holds itself four times.
        let many = b"\x80\x02]q\x00(h\x00h\x00h\x00h\x00e.";
        let (pickle, _) = Pickle::parse(many).unwrap();
        assert!(pickle.json(pickle.root).unwrap_err().to_string().contains("too large"));
    }

    #[test]
    fn long_numbers_are_read_up_to_eight_bytes() {
        fn number(dump: &[u8]) -> Value<'_> {
            Pickle::parse(dump).unwrap().0.root
        }
        assert_eq!(number(b"\x8a\x02\x00\x80."), Value::Int(-32_768));
        assert_eq!(number(b"\x8a\x00."), Value::Int(0));
        assert_eq!(number(b"\x8a\x09123456789."), Value::Other);
        assert_eq!(number(b"L5000000000L\n."), Value::Int(5_000_000_000));
    }
}
