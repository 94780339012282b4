"""A tree of URLs whose endpoints tell which of them was found."""

from tests.contracts.applications.package import GenericWebsocket


class _Named(GenericWebsocket):
    async def connect(self, **kwargs: str):
        await self.accept()
        await self.send([type(self).__name__, self.path_variables])


class Root(_Named): ...


class Index(_Named): ...


class Static(_Named): ...


class Variable(_Named): ...


class Deep(_Named): ...


class Slashed(_Named): ...


class OnlyStatic(_Named): ...


class UnderVariable(_Named): ...


class OtherUnderVariable(_Named): ...


class Between(_Named): ...


URLS = {
    "": Index,
    "static": Static,
    "static-2_x": Static,
    "<name>": Variable,
    "deep": {"a": {"b": {"c": {"d": Deep}}}},
    "keys/with/slashes": Deep,
    "/slashed/": {"/inner/": {"": Slashed, "/<value>/": Variable}},
    "reserved": {"me": {}, "<name>": Variable},
    # A part that matches statically is never tried as the variable beside it.
    "branch": {
        "static": {"only": OnlyStatic},
        "<value>": {"": Variable, "other": UnderVariable, "only": OtherUnderVariable},
    },
    "both/<value>": Variable,
    "both/<value>/sub": UnderVariable,
    "both/<value>/<other>": Between,
    "between/<value>/end": Between,
    "leaf": Static,
    "leaf/below": Deep,
}

ROOT_URLS = {"": Root}
