"""The explorer, by mouse and by keyboard: a scale k whose lr moves with it leaves the function's path as it is.

It is told by [data-explorer], and its parts by their names.
"""

from checks import FRAMES

PAGES = {"book/intro.html", "book/4_parameter_scale.html"}  # that have to hold one
STATE = """(explorer) => ({
    k: explorer.querySelector("input[name=log2-k]").value,
    lr: explorer.querySelector("input[name=log10-lr]").value,
    function: explorer.querySelector("path[data-path=function]").getAttribute("d"),
    parameter: explorer.querySelector("path[data-path=parameter]").getAttribute("d"),
    readout: explorer.querySelector("output[data-readout]").textContent,
})"""


async def explore(page, visit):
    if visit.scheme != "light":
        return
    for explorer in await page.locator("[data-explorer]").all():
        visit.explorer = True
        for optimizer in ("Adam", "SGD"):
            await explorer.locator("select[name=optimizer]").select_option(optimizer)
            for keep in (True, False):
                for by, move in (("keyboard", by_keyboard), ("mouse", by_mouse)):
                    box = explorer.locator("input[name=keep]")
                    if await box.is_checked() != keep:
                        await (box.press("Space") if by == "keyboard" else box.click())
                    before = await state(page, explorer)
                    await move(page, explorer.locator("input[name=log2-k]"))
                    after = await state(page, explorer)
                    how = f"{optimizer}, by {by}, {'with' if keep else 'without'} lr"
                    visit.add([("explorer", f"{how}: {what}") for what in compare(before, after, keep)])


async def state(page, explorer):
    await page.evaluate(FRAMES)
    return await explorer.evaluate(STATE)


async def by_keyboard(page, k):
    await k.press("ArrowRight")


async def by_mouse(page, k):
    """A click where the slider's other values lie: a third of the way for a high one, two thirds for a low one."""
    share = await k.evaluate("(k) => (k.value - k.min) / (k.max - k.min)")
    await k.scroll_into_view_if_needed()
    box = await k.bounding_box()
    x = box["x"] + box["width"] * (1 / 3 if share > 0.5 else 2 / 3)
    await page.mouse.click(x, box["y"] + box["height"] / 2)


def compare(before, after, keep):
    if before["k"] == after["k"]:
        return ["k does not move"]
    wrong = []
    if keep != (before["function"] == after["function"]):
        wrong.append("the function's path changes" if keep else "the function's path does not change")
    if keep == (before["lr"] == after["lr"]):
        wrong.append("lr does not move" if keep else "lr moves")
    if (before["readout"], before["parameter"]) == (after["readout"], after["parameter"]):
        wrong.append("neither the read-out nor the parameter's path changes")
    return wrong
