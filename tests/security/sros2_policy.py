# SPDX-License-Identifier: Apache-2.0
"""SROS2 policy files: their form, and which names of the graph they allow.

Form and meaning as in the policy.xsd and permissions.xsl of the package sros2.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

RULES = {
    "topics": ("topic", {"publish", "subscribe"}),
    "services": ("service", {"reply", "request"}),
}
KINDS = ("publish", "subscribe", "reply", "request")
_OPTION = "With "


@dataclass
class Rights:
    """Absolute names, by what a node may do with them."""

    names: dict[str, set[str]] = field(default_factory=lambda: {kind: set() for kind in KINDS})

    def __or__(self, other: Rights) -> Rights:
        return Rights({kind: self.names[kind] | other.names[kind] for kind in KINDS})

    def beyond(self, other: Rights) -> list[str]:
        """Lines that the other one lacks."""
        lines = []
        for kind in KINDS:
            tag = "topic" if kind in RULES["topics"][1] else "service"
            surplus = sorted(self.names[kind] - other.names[kind])
            lines += [f'<{tag}>{name}</{tag}> ({kind}="ALLOW")' for name in surplus]
        return lines


@dataclass
class Profile:
    """One node of a policy file."""

    context: str
    node: str
    namespace: str
    rules: list[ET.Element]
    options: dict[str, list[ET.Element]]
    """Option → rules in the comment that begins with "With OPTION:"."""

    def rights(self, *options: str, namespace: str | None = None, **renamed: str) -> Rights:
        """What the file allows, its names resolved; ``renamed``: relative name → remapped one."""
        rights = Rights()
        chosen = self.rules + [rule for option in options for rule in self.options[option]]
        for rule in chosen:
            for kind in rule.attrib:
                for name in rule:
                    text = renamed.get(name.text, name.text)
                    rights.names[kind].add(self._absolute(text, namespace or self.namespace))
        return rights

    def _absolute(self, name: str, namespace: str) -> str:
        if name.startswith("/"):
            return name
        inside = namespace.rstrip("/") + "/"
        return inside + (f"{self.node}{name[1:]}" if name.startswith("~/") else name)


def read_policy(path: Path) -> Profile:
    """The one profile of a policy file; AssertionError where the form is not the schema's."""
    (profile,) = read_profiles(path)
    return profile


def read_profiles(path: Path) -> list[Profile]:
    """The nodes of a policy file's one context; AssertionError as above."""
    builder = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    policy = ET.parse(path, builder).getroot()
    assert policy.tag == "policy"
    assert policy.attrib == {"version": "0.2.0"}
    contexts = _only(policy, "contexts")
    context = _only(contexts, "context")
    assert set(context.attrib) == {"path"}
    profiles = [child for child in _only(context, "profiles") if child.tag is not ET.Comment]
    assert {child.tag for child in profiles} == {"profile"}
    return [_read_profile(context.attrib["path"], profile) for profile in profiles]


def _read_profile(context: str, profile: ET.Element) -> Profile:
    assert set(profile.attrib) == {"ns", "node"}
    rules = [rule for rule in profile if rule.tag is not ET.Comment]
    options: dict[str, list[ET.Element]] = {}
    for comment in profile:
        if comment.tag is ET.Comment:
            head, _, text = comment.text.strip().partition(":")
            assert head.startswith(_OPTION), f"a comment that is no option: {comment.text}"
            options[head.removeprefix(_OPTION)] = list(ET.fromstring(f"<x>{text}</x>"))
    for rule in [*rules, *(rule for group in options.values() for rule in group)]:
        _check_rule(rule)
    return Profile(context, profile.attrib["node"], profile.attrib["ns"], rules, options)


def _only(element: ET.Element, tag: str) -> ET.Element:
    children = [child for child in element if child.tag is not ET.Comment]
    assert [child.tag for child in children] == [tag], f"{element.tag} holds one {tag}"
    return children[0]


def _check_rule(rule: ET.Element) -> None:
    tag, qualifiers = RULES[rule.tag]
    assert rule.attrib, f"{rule.tag} without publish, subscribe, reply or request"
    assert set(rule.attrib) <= qualifiers
    assert set(rule.attrib.values()) == {"ALLOW"}, "what is not allowed is denied"
    assert len(rule), f"{rule.tag} of nothing"
    for name in rule:
        assert name.tag == tag
        assert not name.attrib
        assert name.text == name.text.strip() != ""
        assert "*" not in name.text, "a pattern allows what nobody has read"
