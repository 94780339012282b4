from channels.layers import get_channel_layer


async def announce(headline: str) -> None:
    layer = get_channel_layer()
    await layer.group_send("news", {"type": "news.flash", "headline": headline})
