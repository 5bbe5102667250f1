"""Show the entries of the theme's download menu as buttons: a page's notebook is then one click away."""

LOOKS = {
    "download-source-button": ("fas fa-download", "Download this page's {suffix}"),
    "download-pdf-button": ("fas fa-print", "Print, or save as PDF"),
}


def unfold(app, page, template, context, doctree):
    buttons = []
    for button in context.get("header_buttons", ()):
        if button["label"] != "download-buttons":
            buttons.append(button)
            continue
        for entry in button["buttons"]:
            icon, tip = LOOKS.get(entry["label"], (entry["icon"], entry["tooltip"]))
            tip = tip.format(suffix=context["page_source_suffix"])
            buttons.append({**entry, "icon": icon, "tooltip": tip, "text": None})
    context["header_buttons"] = buttons


def setup(app):
    app.connect("html-page-context", unfold, priority=502)  # after the theme
    return {"parallel_read_safe": True}
