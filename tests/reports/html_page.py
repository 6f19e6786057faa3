"""Reads a web page as the tests need it."""

import html.parser


class Page(html.parser.HTMLParser):
    """Collects tags, texts, headings and the cells of tables; tags must close in order.

    Attributes:
        tags: (name, attributes) of every element.
        rows: the cells of every row of a table, lines of a cell joined by "|".
        texts: (name of the element, text) of every piece of text.
    """

    def __init__(self, text):
        super().__init__()
        self.tags, self.rows, self.texts, self._open = [], [], [], []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "small" and self._open[-1] in ("td", "th"):
            self.rows[-1][-1] += "|"
        if tag not in ("meta", "img"):
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open:
            self.texts.append((self._open[-1], data))
            if {"td", "th"} & {*self._open}:
                self.rows[-1][-1] += data

    def of(self, tag):
        """The texts directly in elements of this name."""
        return [text for name, text in self.texts if name == tag]
