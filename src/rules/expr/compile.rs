//! From CEL text to [`Node`]s: names are resolved and calls checked here, so that evaluation cannot meet an unknown name.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr as Ast, IdedExpr, LiteralValue, SourceInfo, operators,
};

use super::functions::{self, Function};
use super::library::{self, LibraryCall};
use super::operators::Binary;
use super::optional::OptionalCall;
use super::{Root, functions::closest};
use crate::model::number::Decimal;
use crate::model::value::Value;

/// The names an expression may read.
#[derive(Clone, Copy, Debug)]
pub enum Roots<'a> {
    /// `event` only.
    Event,
    /// The entity under its type name with these members, and `key`.
    Entity { kind: &'a str, members: &'a [&'a str] },
    /// `body`, what a source received.
    Body,
}

/// Why an expression does not compile, and where in its text (byte offsets).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    pub message: String,
    pub help: Option<String>,
    pub start: usize,
    pub end: usize,
}

/// A compiled expression's tree.
#[derive(Debug)]
pub(super) enum Node {
    Literal(Value),
    /// A root and how the text spells it.
    Root(Root, Box<str>),
    /// A variable of an enclosing macro.
    Local(Box<str>),
    Select(Box<Node>, Box<str>),
    Has(Box<Node>),
    OptSelect(Box<Node>, Box<str>),
    Index(Box<Node>, Box<Node>),
    OptIndex(Box<Node>, Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
    If(Box<[Node; 3]>),
    Negate(Box<Node>),
    Binary(Binary, Box<[Node; 2]>),
    /// Elements, each marked if it is left out when it has no value (`[?x]`).
    List(Vec<(Node, Presence)>),
    Map(Vec<(Node, Node, Presence)>),
    /// `map` and `filter`: what an element becomes, if it passes.
    Collect(Box<Collect>),
    Fold(Box<Fold>),
    Call(Function, Vec<Node>),
    Optional(OptionalCall, Vec<Node>),
    Library(Box<LibraryCall>, Vec<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Required,
    Optional,
}

#[derive(Debug)]
pub(super) struct Collect {
    pub range: Node,
    pub variable: Box<str>,
    pub filter: Option<Node>,
    pub element: Node,
}

#[derive(Debug)]
pub(super) struct Fold {
    pub range: Node,
    pub variable: Box<str>,
    pub second: Option<Box<str>>,
    pub accumulator: Box<str>,
    pub init: Node,
    pub condition: Node,
    pub step: Node,
    pub result: Node,
}

/// Longer expressions are refused, in bytes.
const EXPRESSION_BYTES_MAX: usize = 8 * 1024;

/// Nodes of the tree nest at most twice this deep.
pub(super) const EXPRESSION_DEPTH_MAX: u16 = 64;

/// The parser recurses along operators and brackets, so it gets a stack that the longest expression cannot use up.
const PARSER_STACK_BYTES: usize = 128 * 1024 * 1024;

/// Parses and compiles `text`.
pub(super) fn compile(text: &str, roots: &Roots<'_>) -> Result<Node, CompileError> {
    let whole = |message: String| CompileError { message, help: None, start: 0, end: text.len() };
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(whole(format!(
            "an expression has at most {EXPRESSION_BYTES_MAX} bytes; split it into derived values"
        )));
    }
    std::thread::scope(|scope| {
        let parser =
            std::thread::Builder::new().stack_size(PARSER_STACK_BYTES).spawn_scoped(scope, || parse(text, roots));
        match parser.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(compiled)) => compiled,
            Ok(Err(_)) | Err(_) => Err(whole("the expression cannot be parsed".to_owned())),
        }
    })
}

fn parse(text: &str, roots: &Roots<'_>) -> Result<Node, CompileError> {
    let (ast, source) = library::parser().parse_with_source_info(text).map_err(|errors| {
        let error = errors.errors.into_iter().next();
        let (line, column) = error.as_ref().map_or((1, 1), |error| error.pos);
        let start = offset(text, line, column);
        let detail = error.map(|error| error.msg).unwrap_or_default();
        let detail = detail.lines().next().unwrap_or_default().trim_start_matches("Syntax error: ").to_owned();
        CompileError { message: format!("not a CEL expression: {detail}"), help: None, start, end: start + 1 }
    })?;
    Compiler { roots, source: &source, locals: Vec::new(), depth: 0 }.node(&ast)
}

fn offset(text: &str, line: isize, column: isize) -> usize {
    let before: usize = text.split_inclusive('\n').take(usize::try_from(line - 1).unwrap_or(0)).map(str::len).sum();
    let wanted = usize::try_from(column - 1).unwrap_or(0);
    before + text[before..].char_indices().nth(wanted).map_or(text.len() - before, |(at, _)| at)
}

struct Compiler<'a> {
    roots: &'a Roots<'a>,
    source: &'a SourceInfo,
    locals: Vec<String>,
    depth: u16,
}

type Compiled = Result<Node, CompileError>;

impl Compiler<'_> {
    fn error(&self, at: &IdedExpr, message: impl Into<String>, help: Option<String>) -> CompileError {
        let (start, end) = self.source.offset_for(at.id).unwrap_or((0, 0));
        CompileError { message: message.into(), help, start: start as usize, end: end.max(start) as usize + 1 }
    }

    fn boxed(&mut self, ast: &IdedExpr) -> Result<Box<Node>, CompileError> {
        self.node(ast).map(Box::new)
    }

    fn nodes(&mut self, asts: &[IdedExpr]) -> Result<Vec<Node>, CompileError> {
        asts.iter().map(|ast| self.node(ast)).collect()
    }

    fn node(&mut self, ast: &IdedExpr) -> Compiled {
        self.depth += 1;
        if self.depth > 2 * EXPRESSION_DEPTH_MAX {
            return Err(self.error(ast, "nested too deeply; split it into derived values", None));
        }
        let node = self.node_inside(ast);
        self.depth -= 1;
        node
    }

    fn node_inside(&mut self, ast: &IdedExpr) -> Compiled {
        match &ast.expr {
            Ast::Literal(literal) => self.literal(ast, literal),
            Ast::Ident(name) => self.ident(ast, name),
            Ast::Select(select) => {
                let node = match self.root_member(ast, &select.operand, &select.field)? {
                    Some(node) => node,
                    None => {
                        let of = self.boxed(&select.operand)?;
                        if let Some(kind) = of.kind().filter(|kind| !matches!(*kind, "map" | "optional")) {
                            return Err(self.error(
                                ast,
                                format!("a {kind} has no members, so not `{}`", select.field),
                                None,
                            ));
                        }
                        Node::Select(of, select.field.as_str().into())
                    }
                };
                Ok(if select.test { Node::Has(Box::new(node)) } else { node })
            }
            Ast::Call(call) => self.call(ast, call),
            Ast::List(list) => {
                let presence =
                    |n| if list.optional_indices.contains(&n) { Presence::Optional } else { Presence::Required };
                let items = list.elements.iter().enumerate();
                Ok(Node::List(items.map(|(n, item)| Ok((self.node(item)?, presence(n)))).collect::<Result<_, _>>()?))
            }
            Ast::Map(map) => {
                let mut members = Vec::new();
                for entry in &map.entries {
                    let EntryExpr::MapEntry(member) = &entry.expr else {
                        return Err(self.error(ast, "message types are not available", None));
                    };
                    let presence = if member.optional { Presence::Optional } else { Presence::Required };
                    members.push((self.node(&member.key)?, self.node(&member.value)?, presence));
                }
                Ok(Node::Map(members))
            }
            Ast::Comprehension(comprehension) => self.comprehension(comprehension),
            Ast::Struct(_) | Ast::Unspecified => Err(self.error(ast, "message types are not available", None)),
        }
    }

    fn literal(&self, ast: &IdedExpr, literal: &LiteralValue) -> Compiled {
        Ok(Node::Literal(match literal {
            LiteralValue::Boolean(b) => Value::Bool(*b.inner()),
            LiteralValue::Int(int) => Value::Int(*int.inner()),
            LiteralValue::UInt(int) => match i64::try_from(*int.inner()) {
                Ok(int) => Value::Int(int),
                Err(_) => return Err(self.error(ast, "an integer beyond 64 bits", Some("write decimal('…')".into()))),
            },
            LiteralValue::Double(double) => Value::Double(*double.inner()),
            LiteralValue::String(text) => Value::string(text.inner()),
            LiteralValue::Null => Value::Null,
            LiteralValue::Bytes(_) => return Err(self.error(ast, "byte strings are not available", None)),
        }))
    }

    fn ident(&self, ast: &IdedExpr, name: &str) -> Compiled {
        if self.locals.iter().any(|local| local == name) {
            return Ok(Node::Local(name.into()));
        }
        let root = match (self.roots, name) {
            (Roots::Event, "event") => Root::Event,
            (Roots::Body, "body") => Root::Body,
            (Roots::Entity { .. }, "key") => Root::Key,
            (Roots::Entity { kind, .. }, name) if name == *kind => Root::Entity,
            _ => return Err(self.unknown_name(ast, name)),
        };
        Ok(Node::Root(root, name.into()))
    }

    fn unknown_name(&self, ast: &IdedExpr, name: &str) -> CompileError {
        let (known, help): (Vec<&str>, _) = match self.roots {
            Roots::Event => (vec!["event"], "this expression reads `event` only".to_owned()),
            Roots::Body => (vec!["body"], "this expression reads `body` only".to_owned()),
            Roots::Entity { kind, members } if members.contains(&name) => (vec![], format!("write `{kind}.{name}`")),
            Roots::Entity { kind, .. } if name == "event" => (
                vec![],
                format!(
                    "only `key`, `id`, `time`, `if`, `by`, `value`, `order_by` read the event; this one reads `{kind}`"
                ),
            ),
            Roots::Entity { kind, .. } => (vec![kind, "key"], format!("this expression reads `{kind}` and `key`")),
        };
        let help = closest(name, known).map_or(help, |near| format!("did you mean `{near}`?"));
        self.error(ast, format!("unknown name `{name}`"), Some(help))
    }

    /// `event.x` and `order.x` are roots of their own.
    fn root_member(&self, ast: &IdedExpr, operand: &IdedExpr, member: &str) -> Result<Option<Node>, CompileError> {
        let Ast::Ident(name) = &operand.expr else { return Ok(None) };
        if self.locals.contains(name) {
            return Ok(None);
        }
        let root = match self.roots {
            Roots::Event if name == "event" => Root::Attribute(member.into()),
            Roots::Entity { kind, members } if name == kind => {
                match members.iter().position(|known| *known == member) {
                    Some(at) => Root::Member(at),
                    None => {
                        let help = match closest(member, members.iter().copied()) {
                            Some(near) => format!("did you mean `{kind}.{near}`?"),
                            None => format!("`{kind}` has: {}", members.join(", ")),
                        };
                        return Err(self.error(
                            ast,
                            format!("`{kind}` has no field or derived value `{member}`"),
                            Some(help),
                        ));
                    }
                }
            }
            _ => return Ok(None),
        };
        Ok(Some(Node::Root(root, format!("{name}.{member}").into())))
    }

    fn call(&mut self, ast: &IdedExpr, call: &CallExpr) -> Compiled {
        use cel::common::ast::operators as op;
        if let Some(binary) = Binary::named(&call.func_name) {
            let [a, b] = self.two(ast, call)?;
            return Ok(Node::Binary(binary, Box::new([a, b])));
        }
        match (call.func_name.as_str(), call.args.as_slice()) {
            (op::LOGICAL_AND, [a, b]) => Ok(Node::And(self.condition(a)?, self.condition(b)?)),
            (op::LOGICAL_OR, [a, b]) => Ok(Node::Or(self.condition(a)?, self.condition(b)?)),
            (op::LOGICAL_NOT, [a]) => Ok(Node::Not(self.condition(a)?)),
            (op::CONDITIONAL, [c, a, b]) => Ok(Node::If(Box::new([*self.condition(c)?, self.node(a)?, self.node(b)?]))),
            (op::NEGATE, [a]) => Ok(Node::Negate(self.boxed(a)?)),
            (op::INDEX | op::OPT_INDEX | op::OPT_SELECT, [of, at]) => self.access(ast, &call.func_name, of, at),
            // Kept as it is: a fold's condition treats what has no value as true.
            (op::NOT_STRICTLY_FALSE, [a]) => self.node(a),
            _ => self.function(ast, call),
        }
    }

    fn two(&mut self, ast: &IdedExpr, call: &CallExpr) -> Result<[Node; 2], CompileError> {
        self.nodes(&call.args)?.try_into().map_err(|_| self.error(ast, "an operator takes two operands", None))
    }

    /// An operand of `&&`, `||`, `!`, `?:`.
    fn condition(&mut self, ast: &IdedExpr) -> Result<Box<Node>, CompileError> {
        let node = self.boxed(ast)?;
        match node.kind() {
            None | Some("bool") => Ok(node),
            Some(kind) => Err(self.error(ast, format!("a bool is needed here, this is a {kind}"), None)),
        }
    }

    fn access(&mut self, ast: &IdedExpr, operator: &str, of: &IdedExpr, at: &IdedExpr) -> Compiled {
        let member = match &at.expr {
            Ast::Literal(LiteralValue::String(member)) => Some(member.inner().to_owned()),
            _ => None,
        };
        if let Some(member) = member {
            if let Some(root) = self.root_member(ast, of, &member)? {
                return Ok(match operator {
                    operators::INDEX => root,
                    _ => Node::Optional(OptionalCall::OfMaybe, vec![root]),
                });
            }
            if operator == operators::OPT_SELECT {
                return Ok(Node::OptSelect(self.boxed(of)?, member.into()));
            }
        }
        let (of, at) = (self.boxed(of)?, self.boxed(at)?);
        Ok(if operator == operators::INDEX { Node::Index(of, at) } else { Node::OptIndex(of, at) })
    }

    fn function(&mut self, ast: &IdedExpr, call: &CallExpr) -> Compiled {
        let name = call.func_name.as_str();
        // A name before the dot that is bound to nothing is a namespace, such as `math`.
        let namespace = match call.target.as_deref().map(|target| &target.expr) {
            Some(Ast::Ident(name)) if self.ident(ast, name).is_err() && library::is_namespace(name) => {
                Some(name.as_str())
            }
            _ => None,
        };
        if namespace == Some("optional")
            && let Some(optional) = OptionalCall::constructor(name, call.args.len())
        {
            return Ok(Node::Optional(optional, self.nodes(&call.args)?));
        }
        let mut arguments = Vec::new();
        if let (Some(target), None) = (&call.target, namespace) {
            arguments.push(self.node(target)?);
        }
        let is_method = !arguments.is_empty();
        arguments.extend(self.nodes(&call.args)?);
        if is_method && let Some(optional) = OptionalCall::method(name, arguments.len()) {
            return Ok(Node::Optional(optional, arguments));
        }
        if namespace.is_none()
            && let Some(function) = Function::named(name)
        {
            match (function.check(is_method, arguments.len()), is_method && library::NAMES.contains(&name)) {
                (Ok(()), _) => return Ok(Node::Call(function, arguments)),
                (Err(_), true) => {}
                (Err(usage), false) => {
                    let help = Some(format!("write {usage}"));
                    return Err(self.error(ast, format!("`{name}` is not called like this"), help));
                }
            }
        }
        match LibraryCall::new(call, namespace, arguments.len()) {
            Some(library) => Ok(Node::Library(Box::new(library), arguments)),
            None => {
                let help = closest(name, functions::names().chain(library::NAMES.iter().copied()))
                    .map(|near| format!("did you mean `{near}`?"));
                Err(self.error(ast, format!("unknown function `{name}`"), help))
            }
        }
    }

    fn comprehension(&mut self, ast: &ComprehensionExpr) -> Compiled {
        let range = self.node(&ast.iter_range)?;
        let init = self.node(&ast.accu_init)?;
        let depth = self.locals.len();
        self.locals.push(ast.iter_var.clone());
        self.locals.extend(ast.iter_var2.clone());
        self.locals.push(ast.accu_var.clone());
        let built = self.loop_body(ast, range, init);
        self.locals.truncate(depth);
        built
    }

    fn loop_body(&mut self, ast: &ComprehensionExpr, range: Node, init: Node) -> Compiled {
        if ast.iter_var2.is_none()
            && matches!(&init, Node::List(items) if items.is_empty())
            && let Some((filter, element)) = collected(ast)
        {
            let filter = filter.map(|filter| self.node(filter)).transpose()?;
            let element = self.node(element)?;
            let variable = ast.iter_var.as_str().into();
            return Ok(Node::Collect(Box::new(Collect { range, variable, filter, element })));
        }
        Ok(Node::Fold(Box::new(Fold {
            range,
            variable: ast.iter_var.as_str().into(),
            second: ast.iter_var2.as_deref().map(Box::from),
            accumulator: ast.accu_var.as_str().into(),
            init,
            condition: self.node(&ast.loop_cond)?,
            step: self.node(&ast.loop_step)?,
            result: self.node(&ast.result)?,
        })))
    }
}

/// Recognises what `map` and `filter` expand to: `accu + [element]`, perhaps behind a condition.
fn collected(ast: &ComprehensionExpr) -> Option<(Option<&IdedExpr>, &IdedExpr)> {
    let is_accumulator = |node: &IdedExpr| matches!(&node.expr, Ast::Ident(name) if *name == ast.accu_var);
    let appended = |node: &'_ IdedExpr| match &node.expr {
        Ast::Call(call) if call.func_name == operators::ADD && is_accumulator(&call.args[0]) => Some(()),
        _ => None,
    };
    fn element(node: &IdedExpr) -> Option<&IdedExpr> {
        let Ast::Call(call) = &node.expr else { return None };
        match &call.args.get(1)?.expr {
            Ast::List(list) if list.elements.len() == 1 && list.optional_indices.is_empty() => list.elements.first(),
            _ => None,
        }
    }
    if !is_accumulator(&ast.result) {
        return None;
    }
    match &ast.loop_step.expr {
        Ast::Call(call) if call.func_name == operators::CONDITIONAL && is_accumulator(&call.args[2]) => {
            appended(&call.args[1])?;
            Some((Some(&call.args[0]), element(&call.args[1])?))
        }
        _ => {
            appended(&ast.loop_step)?;
            Some((None, element(&ast.loop_step)?))
        }
    }
}

impl Node {
    /// The type of its value, where the text alone tells.
    pub(super) fn kind(&self) -> Option<&'static str> {
        match self {
            Node::Literal(value) => Some(value.type_name()),
            Node::Has(_) | Node::And(..) | Node::Or(..) | Node::Not(_) => Some("bool"),
            Node::Binary(binary, _) => binary.kind(),
            Node::List(_) | Node::Collect(_) => Some("list"),
            Node::Map(_) => Some("map"),
            Node::Call(function, _) => function.kind(),
            Node::Root(Root::Key, _) => Some("string"),
            Node::If(parts) => parts[1].kind().filter(|kind| parts[2].kind() == Some(kind)),
            _ => None,
        }
    }

    /// All roots read anywhere in it.
    pub(super) fn collect_roots(&self, roots: &mut Vec<Root>) {
        let mut all = |nodes: &[&Node]| nodes.iter().for_each(|node| node.collect_roots(roots));
        match self {
            Node::Literal(_) | Node::Local(_) => {}
            Node::Root(root, _) => roots.push(root.clone()),
            Node::Select(a, _) | Node::OptSelect(a, _) | Node::Has(a) | Node::Not(a) | Node::Negate(a) => all(&[a]),
            Node::Index(a, b) | Node::OptIndex(a, b) | Node::And(a, b) | Node::Or(a, b) => all(&[a, b]),
            Node::If(parts) => all(&[&parts[0], &parts[1], &parts[2]]),
            Node::Binary(_, parts) => all(&[&parts[0], &parts[1]]),
            Node::List(items) => items.iter().for_each(|(item, _)| item.collect_roots(roots)),
            Node::Map(members) => members.iter().for_each(|(key, value, _)| {
                key.collect_roots(roots);
                value.collect_roots(roots);
            }),
            Node::Collect(collect) => {
                all(&[&collect.range, &collect.element]);
                if let Some(filter) = &collect.filter {
                    filter.collect_roots(roots);
                }
            }
            Node::Fold(fold) => all(&[&fold.range, &fold.init, &fold.condition, &fold.step, &fold.result]),
            Node::Call(_, args) | Node::Optional(_, args) | Node::Library(_, args) => {
                args.iter().for_each(|arg| arg.collect_roots(roots));
            }
        }
    }
}

/// The decimal that a literal stands for when a decimal is asked for.
pub(super) fn decimal_of_text(text: &str) -> Option<Decimal> {
    Decimal::parse(text.trim())?.ok()
}
