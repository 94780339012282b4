from panther_channels import status
from panther_channels.exceptions import AuthorizationAPIError
from panther_channels.websocket import GenericWebsocket


class Lounge(GenericWebsocket):
    async def connect(self):
        if "name" not in self.query_params:
            return  # not accepted, so refused
        if self.query_params["name"] == "nobody":
            await self.close()  # the same, said aloud
            return
        if self.headers.user_agent == "scraper":
            raise AuthorizationAPIError("No scrapers, please.")  # the same, with a line in the log
        await self.accept()


class Reasoned(GenericWebsocket):
    async def connect(self):
        await self.accept()
        if "ticket" not in self.query_params:
            await self.close(code=status.WS_3003_FORBIDDEN, reason="Buy a ticket first.")


class Versioned(GenericWebsocket):
    async def connect(self):
        known = [name for name in ("chat.v2", "chat.v1") if name in self.scope["subprotocols"]]
        await self.accept(
            subprotocol=known[0] if known else None,
            headers={"x-served-by": "lounge"},
        )
