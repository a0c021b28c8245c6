"""What all tables share: the metadata, the column types and their names."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, MetaData, String, Text
from sqlalchemy.ext.compiler import compiles


class LongText(Text):
    """Text of any length; a plain TEXT of the MySQL family ends at 64 KB."""

    inherit_cache = True


@compiles(LongText, "mysql")
def _mysql_long_text(_type: LongText, _compiler: object, **_options: object) -> str:
    return "MEDIUMTEXT"


metadata = MetaData()

KEY = String(512)
NAME = String(120)
LONG = LongText()
ID = BigInteger().with_variant(Integer, "sqlite")
