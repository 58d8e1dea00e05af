"""The example of the README runs, and the types say what is there."""

import ast
import inspect
from pathlib import Path

import dinomaly
from conftest import ROOT


def examples(text):
    """The Python in a text's code blocks."""
    return [block.partition("\n")[2] for block in text.split("```")[1::2] if block.startswith("python\n")]


def test_the_examples_of_the_readme_run_on_real_photos(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bottle").symlink_to(data / "few/bottle")
    blocks = examples((ROOT / "python/README.md").read_text())
    assert len(blocks) >= 2
    known = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), known)
    assert (tmp_path / "heatmap.png").is_file()


def test_the_examples_of_the_guide_are_python():
    blocks = examples((ROOT / "docs/python.md").read_text())
    assert len(blocks) >= 4
    for block in blocks:
        compile(block, "docs/python.md", "exec")


def stub():
    return ast.parse((Path(dinomaly.__file__).parent / "__init__.pyi").read_text())


def parameters(function):
    """Names of a function's parameters in its stub."""
    arguments = function.args
    names = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [name.arg for name in names] + [rest.arg for rest in (arguments.vararg, arguments.kwarg) if rest]


def test_the_types_name_all_that_is_there_and_no_more():
    top = {node.name: node for node in stub().body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    public = [name for name in dinomaly.__all__ if callable(getattr(dinomaly, name))]
    assert sorted(name for name in top if not name.startswith("_")) == sorted(public)
    compared = 0
    for name in public:
        known, written = getattr(dinomaly, name), top[name]
        assert inspect.getdoc(known), name
        if isinstance(written, ast.FunctionDef):
            assert parameters(written) == list(inspect.signature(known).parameters), name
            continue
        if issubclass(known, Exception):
            continue
        members = {node.name: node for node in written.body if isinstance(node, ast.FunctionDef)}
        attributes = [node.target.id for node in written.body if isinstance(node, ast.AnnAssign)]
        there = [member for member in vars(known) if not member.startswith("_")]
        assert sorted(there) == sorted([*members, *attributes]), name
        for member, function in members.items():
            assert inspect.getdoc(getattr(known, member)), f"{name}.{member}"
            if not any(isinstance(decorator, ast.Name) and decorator.id == "property" for decorator in function.decorator_list):
                has = [parameter for parameter in parameters(function) if parameter != "self"]
                signature = inspect.signature(getattr(known, member)).parameters
                assert has == [parameter for parameter in signature if parameter != "self"], f"{name}.{member}"
                compared += 1
    assert compared >= 5
