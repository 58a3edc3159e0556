"""The stub says what the module has: names, methods, parameters, attributes; nothing more, nothing less."""

import ast
import types
from pathlib import Path

import muniment.ring
import pytest
from muniment.ring import _ring

STUB = Path(muniment.ring.__file__).with_name("_ring.pyi")
TREE = ast.parse(STUB.read_text(encoding="utf-8"))
CLASSES = {node.name: node for node in TREE.body if isinstance(node, ast.ClassDef)}
ERRORS = {name for name in CLASSES if issubclass(getattr(_ring, name), Exception)}
IMPLIED = {"__module__", "__doc__", "__new__", "__getattribute__", "__weakref__", "__init__"}
SLOTS = {"__buffer__", "__release_buffer__"}  # a Python method from 3.12 on, a slot of the type before


def names(body: list[ast.stmt]) -> set[str]:
    found: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def test_the_module_has_the_names_of_the_stub() -> None:
    real = {name for name in vars(_ring) if not name.startswith("__")}
    assert real == names(TREE.body)


@pytest.mark.parametrize("name", sorted(set(CLASSES) - ERRORS))
def test_a_class_has_the_members_of_its_stub(name: str) -> None:
    real = set(vars(getattr(_ring, name))) - IMPLIED - SLOTS
    assert real == names(CLASSES[name].body) - IMPLIED - SLOTS


@pytest.mark.parametrize("name", sorted(set(CLASSES) - ERRORS))
def test_what_the_stub_calls_an_attribute_is_no_method(name: str) -> None:
    for node in CLASSES[name].body:
        if isinstance(node, ast.FunctionDef) and node.name not in IMPLIED | SLOTS:
            decorators = {ast.unparse(one) for one in node.decorator_list}
            real = vars(getattr(_ring, name))[node.name]
            if "property" in decorators:
                assert isinstance(real, types.GetSetDescriptorType), node.name
            elif "classmethod" in decorators:
                assert isinstance(real, types.ClassMethodDescriptorType), node.name
            else:
                assert isinstance(real, types.MethodDescriptorType | types.WrapperDescriptorType), node.name
        elif isinstance(node, ast.AnnAssign):
            real = vars(getattr(_ring, name))[ast.unparse(node.target)]
            assert isinstance(real, types.MemberDescriptorType), ast.unparse(node.target)


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_an_error_has_the_bases_of_its_stub(name: str) -> None:
    real = getattr(_ring, name)
    assert [base.__name__ for base in real.__bases__] == [ast.unparse(base) for base in CLASSES[name].bases]


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, node in sorted(CLASSES.items())
        if name == "Ring" or (name not in ERRORS and "__init__" in names(node.body))
    ],
)
def test_who_may_be_made_says_how(name: str) -> None:
    if name == "Ring":
        with pytest.raises(TypeError, match="cannot create"):
            _ring.Ring()
    else:
        with pytest.raises(TypeError):
            getattr(_ring, name)(1, 2, 3, 4)


@pytest.mark.parametrize("name", ["Ring", "Producer", "Consumer", "View", "Claim", "NativeStage"])
def test_others_are_made_by_rings_only(name: str) -> None:
    with pytest.raises(TypeError, match="cannot create"):
        getattr(_ring, name)()
    with pytest.raises(TypeError):
        object.__new__(getattr(_ring, name))


@pytest.mark.parametrize("name", sorted(set(CLASSES) - ERRORS))
def test_a_class_cannot_be_changed(name: str) -> None:
    with pytest.raises(TypeError, match="immutable"):
        getattr(_ring, name).publish = None


def test_a_subclass_of_the_abstract_stage_is_no_way_around() -> None:
    with pytest.raises(TypeError):
        type("Mine", (_ring.NativeStage,), {})()


def keywords(node: ast.FunctionDef) -> list[str]:
    return [one.arg for one in node.args.args + node.args.kwonlyargs if one.arg not in ("self", "cls")]


@pytest.mark.parametrize(
    ("cls", "method", "good"),
    [
        ("Producer", "publish_many", {"messages": [b"12345678"]}),
        ("Producer", "publish_buffer", {"records": b"12345678"}),
        ("Producer", "claim", {"n": 1}),
        ("Consumer", "take", {}),
        ("Consumer", "take_many", {"max": 3}),
        ("Consumer", "peek_many", {"max": 3}),
        ("Consumer", "view", {"max": 3}),
        ("Ring", "snapshot_raw", {"liveness": True}),
        ("Ring", "stop", {"stage": None, "code": 1, "sequence": 2}),
    ],
)
def test_the_keywords_of_the_stub_are_those_of_the_method(
    cls: str, method: str, good: dict[str, object]
) -> None:
    ring = _ring.Ring.create(None, capacity=8, slot_bytes=8, stages=[0], fixed=True)
    producer, consumer = ring.producer(), ring.consumer(0)
    producer.publish(b"12345678")
    (node,) = [n for n in CLASSES[cls].body if isinstance(n, ast.FunctionDef) and n.name == method]
    known = keywords(node)
    given = {**({"timeout": 0} if "timeout" in known else {}), **good}
    assert set(given) == set(known)
    target = {"Ring": ring, "Producer": producer, "Consumer": consumer}[cls]
    getattr(target, method)(**given)
    with pytest.raises(TypeError, match="unexpected"):
        getattr(target, method)(**given, other=1)
