"""Made-up but realistic U8 data, the same for the same seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

Row = dict[str, Any]

_CITIES = (
    "上海",
    "苏州",
    "无锡",
    "宁波",
    "杭州",
    "南京",
    "青岛",
    "东莞",
    "佛山",
    "成都",
    "武汉",
    "天津",
)
_BRANDS = (
    "恒远",
    "华新",
    "瑞达",
    "金鼎",
    "永泰",
    "中科",
    "博瑞",
    "联创",
    "盛世",
    "鸿图",
    "泰安",
    "佳华",
)
_TRADES = (
    "机械制造",
    "精密轴承",
    "自动化设备",
    "电气",
    "汽车零部件",
    "液压科技",
    "数控机床",
    "贸易",
)
_FORMS = ("有限公司", "股份有限公司", "有限责任公司")
_SURNAMES = "王李张刘陈杨黄赵吴周徐孙马朱胡郭"
_GIVEN = (
    "伟",
    "芳",
    "敏",
    "静",
    "丽",
    "强",
    "磊",
    "军",
    "洋",
    "勇",
    "艳",
    "杰",
    "建国",
    "志明",
    "晓燕",
)
_ITEMS = (
    "深沟球轴承",
    "伺服电机",
    "电磁阀",
    "行星减速机",
    "同步带",
    "直线导轨",
    "变频器",
    "液压缸",
)
_SORTS = (("01", "原材料"), ("02", "半成品"), ("03", "产成品"), ("04", "外购件"))
_SIZES = (
    "1-50人",
    "51-200人",
    "５１－２００人",
    "201-500人",
    "501-1000人",
    "1001-5000人",
    "5000人以上",
)
WAREHOUSES = {"W01": "成品仓", "W02": "原料仓", "W03": "半成品仓", "W04": "退货仓"}
"""Every ledger has these four."""
STATES = ("draft", "approved", "partly_shipped", "shipped", "closed", "short_closed")
"""Order states, dealt out in turn."""
CURRENCIES = (("人民币", "1"), ("美元", "7.1384"), ("欧元", "7.7620"))


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many records a ledger gets; `stock` counts rows per warehouse, item and batch."""

    materials: int = 60
    stock: int = 150
    customers: int = 40
    orders: int = 25


@dataclass(slots=True)
class Ledger:
    """One 账套: what a data source number leads to."""

    materials: dict[str, Row] = field(default_factory=dict)
    stock: dict[tuple[str, str, str], Row] = field(default_factory=dict)
    customers: dict[str, Row] = field(default_factory=dict)
    orders: dict[str, Row] = field(default_factory=dict)
    warehouses: dict[str, Row] = field(default_factory=dict)


def make_ledger(seed: int, sizes: Sizes, today: date = date(2025, 6, 30)) -> Ledger:
    """A ledger with the awkward cases of `_special_stock` in front of the ordinary rows."""
    dice = random.Random(seed)  # noqa: S311 (test data)
    ledger = Ledger()
    for code, name in WAREHOUSES.items():
        ledger.warehouses[code] = {"code": code, "name": name, "bfreeze": "0"}
    for number in range(1, sizes.materials + 1):
        row = _material(dice, number, today)
        ledger.materials[row["code"]] = row
    for number in range(1, sizes.customers + 1):
        row = _customer(dice, number, today)
        ledger.customers[row["code"]] = row
    _fill_stock(dice, ledger, sizes.stock, today)
    for number in range(1, sizes.orders + 1):
        row = _order(dice, ledger, number, today)
        ledger.orders[row["code"]] = row
    return ledger


def present(**fields: Any) -> Row:
    """A row without its empty fields: U8 leaves null fields out."""
    return {name: value for name, value in fields.items() if value is not None and value != ""}


def number_text(dice: random.Random, value: Decimal) -> Any:
    """A quantity as U8 sends it: mostly a number, sometimes text with six places."""
    return f"{value:.6f}" if dice.random() < 0.3 else value


def _day(dice: random.Random, today: date, back: int) -> date:
    return today - timedelta(days=dice.randrange(back))


def _moment(dice: random.Random, day: date) -> str:
    clock = f"{dice.randrange(8, 18):02d}:{dice.randrange(60):02d}:{dice.randrange(60):02d}"
    return f"{day} {clock}" + dice.choice(("", ".000", f".{dice.randrange(1000):03d}"))


def _material(dice: random.Random, number: int, today: date) -> Row:
    sort_code, sort_name = dice.choice(_SORTS)
    item = dice.choice(_ITEMS)
    return present(
        code=f"A{number:05d}",
        name=item,
        invaddcode=f"{dice.randrange(10**6):06d}" if dice.random() < 0.5 else None,
        specs=f"{dice.choice('ABCD')}{dice.randrange(100, 999)}-{dice.randrange(10, 99)}",
        sort_code=sort_code,
        sort_name=sort_name,
        main_measure="01",
        ccomunitname=dice.choice(("个", "台", "套", "件", "米")),
        unitgroup_type=dice.choice((0, "1")),
        ref_sale_price=number_text(dice, _money(dice, 20, 9000)),
        tax_rate=dice.choice((13, "13", 6)),
        start_date=str(_day(dice, today - timedelta(days=400), 2000)),
        end_date=str(_day(dice, today, 300)) if dice.random() < 0.03 else None,
        ModifyDate=_moment(dice, _day(dice, today, 700)) if dice.random() < 0.95 else None,
        defwarehouse=dice.choice(list(WAREHOUSES)),
        sale_flag=dice.choice(("1", "0", 1)),
    )


def _customer(dice: random.Random, number: int, today: date) -> Row:
    city, brand = dice.choice(_CITIES), dice.choice(_BRANDS)
    trade = dice.choice(_TRADES)
    return present(
        code=f"C{number:05d}",
        name=f"{city}{brand}{trade}{dice.choice(_FORMS)}",
        abbrname=f"{city}{brand}",
        sort_code=dice.choice(("01", "02", "03")),
        industry=trade,
        address=f"{city}市{dice.choice(('工业园', '开发区', '高新区'))}{dice.randrange(1, 999)}号",
        contact=person(dice),
        phone=_landline(dice) if dice.random() < 0.8 else None,
        mobile=_mobile(dice) if dice.random() < 0.9 else None,
        ModifyDate=_moment(dice, _day(dice, today, 700)),
        seed_date=str(_day(dice, today - timedelta(days=30), 2000)),
        end_date=str(_day(dice, today, 300)) if dice.random() < 0.04 else None,
        ccusexch_name="人民币",
        self_define1=dice.choice(_SIZES) if dice.random() < 0.85 else dice.choice(("约百人", None)),
    )


def person(dice: random.Random) -> str:
    """A Chinese name."""
    return dice.choice(_SURNAMES) + dice.choice(_GIVEN)


def _mobile(dice: random.Random) -> str:
    digits = f"1{dice.choice('3578')}{dice.randrange(10**9):09d}"
    spaced = f"{digits[:3]} {digits[3:7]} {digits[7:]}"
    return dice.choice((digits, spaced, f"+86{digits}", spaced.replace(" ", "-")))


def _landline(dice: random.Random) -> str:
    return f"021-{dice.randrange(5 * 10**7, 7 * 10**7)}" + dice.choice(("", "转801", "-802"))


def _money(dice: random.Random, low: int, high: int) -> Decimal:
    return Decimal(dice.randrange(low * 100, high * 100)) / 100


# --- stock ------------------------------------------------------------------------------------


def _fill_stock(dice: random.Random, ledger: Ledger, count: int, today: date) -> None:
    codes = list(ledger.materials)
    for row in _special_stock(ledger, codes)[:count]:
        ledger.stock[stock_key(row)] = row
    while len(ledger.stock) < count and codes:
        number = len(ledger.stock)
        item = ledger.materials[codes[number % len(codes)]]
        warehouse = list(WAREHOUSES)[(number // len(codes)) % 4]
        batched = number % 5 != 0
        batch = f"P{today:%y%m}{number:06d}" if batched else None
        row = _stock_row(dice, item, warehouse, batch, today)
        if stock_key(row) in ledger.stock:
            row["batch"] = f"P{number:07d}"
        ledger.stock[stock_key(row)] = row


def stock_key(row: Row) -> tuple[str, str, str]:
    """What tells stock rows apart."""
    return row["whcode"], row["invcode"], row.get("batch", "")


def _stock_row(
    dice: random.Random, item: Row, warehouse: str, batch: str | None, today: date
) -> Row:
    quantity = Decimal(dice.randrange(0, 500_000)) / 100
    stopped = quantity / 10 if dice.random() < 0.1 else None
    rejected = Decimal(dice.randrange(1, 500)) / 100 if dice.random() < 0.1 else None
    outgoing = Decimal(dice.randrange(1, 5000)) / 100 if dice.random() < 0.3 else None
    made = _day(dice, today, 365)
    return present(
        **_stock_head(item, warehouse),
        batch=batch,
        qty=number_text(dice, quantity),
        stopqty=stopped,
        disableqty=rejected,
        outqty=outgoing,
        availqty=number_text(dice, quantity - (stopped or 0) - (outgoing or 0)),
        mdate=str(made) if batch else None,
        vdate=str(made + timedelta(days=730)) if batch else None,
    )


def _stock_head(item: Row, warehouse: str) -> Row:
    return {
        "whcode": warehouse,
        "whname": WAREHOUSES[warehouse],
        "invcode": item["code"],
        "invname": item["name"],
        "invstd": item["specs"],
        "invccode": item["sort_code"],
        "invcname": item["sort_name"],
    }


def _special_stock(ledger: Ledger, codes: list[str]) -> list[Row]:
    """One item in two warehouses and three batches, and a warehouse that went below zero."""
    if len(codes) < 2:
        return []
    first, second = (ledger.materials[code] for code in codes[:2])
    return [
        {
            **_stock_head(first, "W01"),
            "batch": "B1",
            "qty": "120.500000",
            "availqty": "100.500000",
            "stopqty": "10",
            "outqty": 10,
            "mdate": "2025-01-02",
            "vdate": "2027-01-02",
        },
        {
            **_stock_head(first, "W01"),
            "batch": "B2",
            "qty": 30,
            "disableqty": "2.5",
            "availqty": 30,
        },
        {**_stock_head(first, "W02"), "batch": "B1", "qty": Decimal("7.25"), "availqty": "7.25"},
        {**_stock_head(second, "W04"), "batch": "B9", "qty": "-5.000000", "availqty": "-5.000000"},
        {**_stock_head(second, "W04"), "qty": 2, "availqty": 2},
    ]


# --- orders -----------------------------------------------------------------------------------


def _order(dice: random.Random, ledger: Ledger, number: int, today: date) -> Row:
    state = STATES[(number - 1) % len(STATES)]
    currency, rate = CURRENCIES[1] if number == 2 else dice.choice(CURRENCIES[:1] * 8 + CURRENCIES)
    customer = ledger.customers[dice.choice(list(ledger.customers))]
    day = _day(dice, today, 180)
    red = number % 17 == 3  # a red voucher: every quantity and amount is negative
    codes = dice.sample(list(ledger.materials), min(dice.randint(1, 5), len(ledger.materials)))
    lines = [
        _line(dice, ledger.materials[code], place, Decimal(rate), state, -1 if red else 1)
        for place, code in enumerate(codes, 1)
    ]
    header = present(
        code=f"{number:010d}",
        date=str(day),
        businesstype="普通销售",
        typecode="01",
        typename="普通销售",
        state="开立" if state == "draft" else "审核",
        custcode=customer["code"],
        cusname=customer["name"],
        cusabbname=customer["abbrname"],
        deptcode="0201",
        deptname="销售一部",
        personcode="00012",
        personname=person(dice),
        sendaddress=customer.get("address"),
        ccusperson=customer.get("contact"),
        currency_name=currency,
        currency_rate=rate if dice.random() < 0.5 else Decimal(rate),
        taxrate=13,
        define10=f"OA-{number:06d}" if dice.random() < 0.3 else None,
        memo="加急" if dice.random() < 0.1 else None,
        maker=person(dice),
        money=number_text(dice, _total(lines, "money")),
        sum=number_text(dice, _total(lines, "sum")),
        createsystime=_moment(dice, day),
        **_progress(dice, state, day),
    )
    return {**header, "entry": lines}


def _progress(dice: random.Random, state: str, day: date) -> Row:
    """Verifier, closer and shipping state; U8 leaves them out while there is nothing to say."""
    shipped = {"partly_shipped": 1, "shipped": "2", "closed": 2, "short_closed": "1"}.get(state)
    return present(
        verifier=None if state == "draft" else person(dice),
        verifysystime=None if state == "draft" else _moment(dice, day + timedelta(days=1)),
        closer=person(dice) if state in ("closed", "short_closed") else None,
        fhstatus=shipped if shipped is not None else dice.choice((None, 0, "0")),
    )


def _line(dice: random.Random, item: Row, place: int, rate: Decimal, state: str, sign: int) -> Row:
    quantity = Decimal(sign * dice.randrange(1, 200))
    price = _money(dice, 20, 3000)
    total = (quantity * price).quantize(Decimal("0.01"))
    money = (total / Decimal("1.13")).quantize(Decimal("0.01"))
    local = (total * rate).quantize(Decimal("0.01"))
    local_money = (money * rate).quantize(Decimal("0.01"))
    return present(
        rowno=place if dice.random() < 0.5 else str(place),
        inventorycode=item["code"],
        inventoryname=item["name"],
        invstd=item["specs"],
        unitcode="01",
        unitname=item["ccomunitname"],
        quantity=number_text(dice, quantity),
        taxunitprice=number_text(dice, price),
        money=money,
        tax=total - money,
        sum=number_text(dice, total),
        natmoney=local_money,
        nattax=local - local_money,
        natsum=local,
        bgift="1" if dice.random() < 0.03 else "0",
        dpredate=None if state == "draft" else "2025-07-15",
    )


def _total(lines: list[Row], name: str) -> Decimal:
    return sum((Decimal(str(line[name])) for line in lines), Decimal(0))
