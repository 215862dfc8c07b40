"""What of the bank runs on Spark: the saga of transfers, and the projections of its event store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from jobs.bank import BANK, Transfers
from jobs.bank_fees import PER_MILLE, charged_part
from tidemill.deciding import react, upcast

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_DATA = "amount BIGINT, fee BIGINT, balance BIGINT, transfer STRING"
_OUT = ("Withdrawn", "Debited")


def transfers(events: DataFrame, rejections: DataFrame) -> DataFrame:
    """Give the commands that transfers under way ask for."""
    return react(BANK, Transfers(), events=events, rejections=rejections)


def statements(events: DataFrame) -> DataFrame:
    """Give every entry of every account.

    `entry` counts from 1 in each account; `amount` is signed, `fee` and `balance` are the account's, all in cents.
    """
    entries = _entries(events)
    signed = F.when(F.col("kind").isin(*_OUT), -F.col("amount")).otherwise(F.col("amount"))
    return entries.select(
        "account", "entry", "time", "kind", signed.alias("amount"), "fee", "balance", "transfer"
    )


def balances(events: DataFrame) -> DataFrame:
    """Give the balance after each entry; the sink keeps the last of a day."""
    return _entries(events).select("account", "entry", "time", "balance")


def totals(events: DataFrame) -> DataFrame:
    """Give the number and the sum of the entries of each kind, by day; cents."""
    window = F.window("time", "1 day").alias("window")
    summed = (
        _entries(events)
        .groupBy(window, "kind")
        .agg(F.count(F.lit(1)).alias("entries"), F.sum("amount").alias("amount"), F.sum("fee").alias("fees"))
    )
    return summed.select(F.col("window.start").alias("day"), "kind", "entries", "amount", "fees")


def fees(events: DataFrame) -> DataFrame:
    """Give what each withdrawal was `charged`, what is `due` by today's rule, and what is `owed` to the customer."""
    withdrawn = _entries(events).where("kind = 'Withdrawn'")
    thousandths = (
        charged_part(F.col("amount"), lambda part, least: F.greatest(part, F.lit(least))) * PER_MILLE
    )
    due = ((thousandths - thousandths % 1000) / 1000).cast("bigint")
    named = withdrawn.select(
        "account", "entry", "time", "amount", F.col("fee").alias("charged"), due.alias("due")
    )
    return named.withColumn("owed", F.col("charged") - F.col("due"))


def _entries(events: DataFrame) -> DataFrame:
    """The events of accounts that move money, their data as columns, in today's schema."""
    accounts = upcast(events.where("aggregate = 'account' AND type <> 'account.Opened'"), BANK)
    data = F.from_json("data", _DATA)
    return accounts.select(
        F.col("subject").alias("account"),
        F.col("version").alias("entry"),
        "time",
        F.substring_index("type", ".", -1).alias("kind"),
        data["amount"].alias("amount"),
        F.coalesce(data["fee"], F.lit(0)).cast("bigint").alias("fee"),
        data["balance"].alias("balance"),
        data["transfer"].alias("transfer"),
    )
