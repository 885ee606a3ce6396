"""Python classes made from a listing of an API: only the members that it lists, only calls that fit its signatures."""

import enum
import functools
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

Listing = dict[str, dict[str, Any]]
# What the members of a class do, by class and member.
Behind = dict[str, dict[str, Callable[..., Any]]]


def listing_of(module: ModuleType) -> Listing:
    """The listing of a real binding made with pybind11: names from its classes, signatures from its docstrings."""
    listing: Listing = {}
    for name, kind in vars(module).items():
        if not isinstance(kind, type):
            continue
        if hasattr(kind, "__members__"):
            listing[name] = {"enum": {key: int(value) for key, value in kind.__members__.items()}}
            continue
        methods: dict[str, list[str]] = {}
        properties: dict[str, str] = {}
        for member, value in vars(kind).items():
            if isinstance(value, property):
                properties[member] = "r" if value.fset is None else "rw"
            elif callable(value) and (member == "__init__" or not member.startswith("_")):
                methods[member] = _signatures(member, value.__doc__ or "")
        bases = [base.__name__ for base in kind.__bases__ if base.__module__ == kind.__module__]
        listing[name] = {"bases": bases, "methods": methods, "properties": properties}
    return listing


def _signatures(name: str, documented: str) -> list[str]:
    """Those in a docstring: on its first line, or numbered, where there are several."""
    found = re.findall(rf"^(?:\d+\. )?({re.escape(name)}\(.*\) -> .*)$", documented, re.MULTILINE)
    return [re.sub(r"\btensorrt\w*\.tensorrt\w*\.", "tensorrt.", signature) for signature in found]


def make_class(module: ModuleType, name: str, listing: Listing, behind: Behind) -> type:
    """The class `name` of a listing, and those that it derives from, put into `module`; `behind` says what its members
    do."""
    if hasattr(module, name):
        return getattr(module, name)
    members = listing[name]
    bases = tuple(make_class(module, base, listing, behind) for base in members["bases"])
    does = behind.get(name, {})
    unknown = set(does) - set(members["methods"]) - set(members["properties"]) - {"__buffer__"}
    if any(not member.startswith("_") for member in unknown):
        raise AttributeError(f"TensorRT's {name} has no {', '.join(sorted(unknown))}")
    body: dict[str, Any] = {"_trt": module, "_properties": members["properties"]}
    for method, signatures in members["methods"].items():
        done = does.get(method, functools.partial(_not_done, name, method))
        body[method] = _checked(module, method, [s for s in signatures if "*args" not in s], done)
    for property_, access in members["properties"].items():
        body[property_] = _property(property_, access, does.get(property_))
    body |= {member: done for member, done in does.items() if member not in body}
    if name == "ILogger":  # the listing does not show what is nested in a class; see tensorrt/__init__.py
        severities = {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2, "INFO": 3, "VERBOSE": 4}
        body["Severity"] = enum.Enum("Severity", severities)
    body["__setattr__"] = _refuse_unknown
    made = type(name, bases or ((bytes,) if name == "IHostMemory" else ()), body)
    setattr(module, name, made)
    return made


def _not_done(class_name: str, method: str, *_: Any, **__: Any) -> Any:
    raise NotImplementedError(f"the double does nothing for {class_name}.{method}")


def _refuse_unknown(self: Any, name: str, value: Any) -> None:
    known = any(name in getattr(kind, "_properties", {}) for kind in type(self).__mro__)
    if not known and not name.startswith("_") and name != "__class__":
        raise AttributeError(f"{type(self).__name__} has no {name}")
    object.__setattr__(self, name, value)


def _property(name: str, access: str, reads: Callable[[Any], Any] | None) -> property:
    hidden = f"_value_of_{name}"
    read = reads or (lambda self: getattr(self, hidden))
    return property(read, (lambda self, value: setattr(self, hidden, value)) if access == "rw" else None)


def _checked(module: ModuleType, method: str, signatures: list[str], does: Callable[..., Any]) -> Callable[..., Any]:
    forms = [_parameters(signature) for signature in signatures]

    @functools.wraps(does)
    def call(self: Any, *arguments: Any, **keywords: Any) -> Any:
        if forms and not any(_fits(module, form, arguments, keywords) for form in forms):
            raise TypeError(f"{method}: {arguments} {keywords} fit none of {signatures}")
        return does(self, *arguments, **keywords)

    return call


def _parameters(signature: str) -> list[tuple[str, str, bool]]:
    """(name, type, whether it has a default) of each parameter after self."""
    inside = signature[signature.index("(") + 1 : signature.rindex(") ->")]
    parts = re.split(r", (?=\w+: )", inside)[1:]
    return [(name, kind.split(" = ")[0], " = " in kind) for name, _, kind in (part.partition(": ") for part in parts)]


def _fits(module: ModuleType, form: list[tuple[str, str, bool]], arguments: Any, keywords: dict[str, Any]) -> bool:
    names = [name for name, _, _ in form]
    given = dict(zip(names, arguments, strict=False)) | keywords
    if len(arguments) > len(form) or set(keywords) - set(names[len(arguments) :]):
        return False
    return all((name in given and _is_a(module, given[name], kind)) or (name not in given and has_default)
               for name, kind, has_default in form)  # fmt: skip


def _is_a(module: ModuleType, value: Any, kind: str) -> bool:
    plain = {"str": str, "bool": bool, "tuple": tuple, "list": list}
    if kind in plain:
        return isinstance(value, plain[kind]) or (value is None and kind == "str")
    if kind == "typing.SupportsInt":
        return hasattr(value, "__int__")
    if kind == "typing_extensions.Buffer":
        return isinstance(value, bytes | bytearray | memoryview)
    if kind == "tensorrt.Dims":
        return isinstance(value, tuple | list)
    wanted = getattr(module, kind.removeprefix("tensorrt.").removeprefix("nvinfer1::").partition(" = ")[0], None)
    return wanted is None or isinstance(value, wanted)
