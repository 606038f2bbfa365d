//! From parsed CEL to [`Node`]s: names are resolved and calls checked here, so that evaluation cannot meet an unknown name.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr as Ast, IdedExpr, LiteralValue, SourceInfo, operators,
};

use super::functions::{self, Function};
use super::library::{self, LibraryCall};
use super::names::{Roots, named};
use super::node::{Collect, Fold, Node, Presence};
use super::operators::Binary;
use super::optional::OptionalCall;
use super::{functions::closest, types};
use crate::model::number::Decimal;
use crate::model::value::{Value, described};

/// Nodes of the tree nest at most twice this deep.
pub(super) const EXPRESSION_DEPTH_MAX: u16 = 64;

/// Why an expression does not compile, and where in its text (byte offsets).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    pub message: String,
    pub help: Option<String>,
    pub start: usize,
    pub end: usize,
}

/// Compiles what the parser made of `text`.
pub(super) fn compile(text: &str, ast: &IdedExpr, source: &SourceInfo, roots: &Roots<'_>) -> Compiled {
    Compiler { roots, text, source, locals: Vec::new(), depth: 0 }.node(ast)
}

pub(super) struct Compiler<'a> {
    pub(super) roots: &'a Roots<'a>,
    pub(super) text: &'a str,
    source: &'a SourceInfo,
    pub(super) locals: Vec<String>,
    depth: u16,
}

pub(super) type Compiled = Result<Node, CompileError>;

impl Compiler<'_> {
    pub(super) fn error(&self, at: &IdedExpr, message: impl Into<String>, help: Option<String>) -> CompileError {
        let (start, end) = self.source.offset_for(at.id).unwrap_or((0, 0));
        let (start, end) = named(self.text, start as usize, end.max(start) as usize + 1);
        CompileError { message: message.into(), help, start, end }
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
                let node = if let Some(node) = self.root_member(&select.operand, &select.field)? {
                    node
                } else {
                    let of = self.boxed(&select.operand)?;
                    if let Some(kind) = of.kind().filter(|kind| !matches!(*kind, "map" | "optional")) {
                        return Err(self.error(
                            ast,
                            format!("{} has no members, so not `{}`", described(kind), select.field),
                            None,
                        ));
                    }
                    Node::Select(of, select.field.as_str().into())
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

    fn call(&mut self, ast: &IdedExpr, call: &CallExpr) -> Compiled {
        use cel::common::ast::operators as op;
        if let Some(binary) = Binary::named(&call.func_name) {
            let operands = self.two(ast, call)?;
            types::check_binary(binary, &operands).map_err(|(message, help)| self.error(ast, message, help))?;
            return Ok(Node::Binary(binary, Box::new(operands)));
        }
        match (call.func_name.as_str(), call.args.as_slice()) {
            (op::LOGICAL_AND, [a, b]) => Ok(Node::And(self.condition(a)?, self.condition(b)?)),
            (op::LOGICAL_OR, [a, b]) => Ok(Node::Or(self.condition(a)?, self.condition(b)?)),
            (op::LOGICAL_NOT, [a]) => {
                let start = self.source.offset_for(ast.id).map_or(0, |(start, _)| start as usize);
                Ok(Node::Not(self.condition(a)?, start))
            }
            (op::CONDITIONAL, [c, a, b]) => Ok(Node::If(Box::new([*self.condition(c)?, self.node(a)?, self.node(b)?]))),
            (op::NEGATE, [a]) => {
                let a = self.boxed(a)?;
                types::check_negation(&a).map_err(|message| self.error(ast, message, None))?;
                Ok(Node::Negate(a))
            }
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
            Some(kind) => Err(self.error(ast, format!("a bool is needed here, this is {}", described(kind)), None)),
        }
    }

    fn access(&mut self, ast: &IdedExpr, operator: &str, of: &IdedExpr, at: &IdedExpr) -> Compiled {
        let member = match &at.expr {
            Ast::Literal(LiteralValue::String(member)) => Some(member.inner().to_owned()),
            _ => None,
        };
        if let Some(member) = member {
            if let Some(root) = self.root_member(of, &member)? {
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
        types::check_elements(&of).map_err(|message| self.error(ast, message, None))?;
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
                (Ok(()), _) => {
                    types::check_call(name, function, &arguments).map_err(|message| self.error(ast, message, None))?;
                    return Ok(Node::Call(function, arguments));
                }
                (Err(_), true) => {}
                (Err(usage), false) => {
                    let help = Some(format!("write {usage}"));
                    return Err(self.error(ast, format!("`{name}` is not called like this"), help));
                }
            }
        }
        if let Some(library) = LibraryCall::new(call, namespace, arguments.len()) {
            return Ok(Node::Library(Box::new(library), arguments));
        }
        let help = closest(name, functions::names().chain(library::NAMES.iter().copied()))
            .map(|near| format!("did you mean `{near}`?"));
        Err(self.error(ast, format!("unknown function `{name}`"), help))
    }

    fn comprehension(&mut self, ast: &ComprehensionExpr) -> Compiled {
        let range = self.node(&ast.iter_range)?;
        types::check_range(&range).map_err(|message| self.error(&ast.iter_range, message, None))?;
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

/// The only element of the list that is appended.
fn element(node: &IdedExpr) -> Option<&IdedExpr> {
    let Ast::Call(call) = &node.expr else { return None };
    match &call.args.get(1)?.expr {
        Ast::List(list) if list.elements.len() == 1 && list.optional_indices.is_empty() => list.elements.first(),
        _ => None,
    }
}

/// The decimal that a literal stands for when a decimal is asked for.
pub(super) fn decimal_of_text(text: &str) -> Option<Decimal> {
    Decimal::parse(text.trim())?.ok()
}
