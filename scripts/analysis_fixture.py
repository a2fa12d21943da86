#!/usr/bin/env python3
"""What pandas says about a table, beside what `meerkat analyse` says.

  analysis_fixture.py make FOLDER            writes mixed.csv and mixed.json (pandas' figures) into FOLDER
  analysis_fixture.py figures FILE.csv       prints pandas' figures of a table as JSON
  analysis_fixture.py compare FILE.csv SUMMARY.json
                                             compares a summary with pandas' figures; exit code 1 when they differ
  analysis_fixture.py million FILE.csv       writes a table of a million rows and ten columns
  analysis_fixture.py time FILE.csv          how long pandas takes for the same figures

Needs pandas. The table of `make` is drawn with the standard library, so that it does not change with numpy.
"""
import csv
import json
import math
import random
import sys
import time

TOLERANCE = 1e-9


def make_rows():
    dice = random.Random(20261128)
    cities = ["北京", "上海", "广州, 天河", 'the "old" town', "None", ""]
    yield ["id", "price", "area", "rooms", "share", "city", "note", "furnished", "offset", "constant", "empty", "big"]
    for n in range(400):
        area = dice.gauss(90, 25)
        yield [
            n + 1,
            "" if n % 17 == 3 else f"{math.exp(area / 40 + dice.gauss(8, 0.6)):.2f}",
            "NA" if n % 23 == 5 else f"{area:.3f}",
            dice.choice(["1", "2", "2", "3", "3", "4", "null"]),
            f"{dice.random() ** 3:.6f}",
            dice.choice(cities),
            dice.choice(["房子很好，采光好", "quiet and bright", "near the station", "地铁旁边", "N/A", "nan"]),
            dice.choice(["True", "False"]),
            f"{dice.expovariate(1) - 2:.5f}",
            "7.5",
            "",
            f"{1e6 + dice.gauss(0, 1):.6f}",
        ]


def figures(path):
    import pandas as pd

    table = pd.read_csv(path)
    numbers = table.select_dtypes(include=["number", "bool"])
    skew = numbers.skew()
    filled = numbers.copy()
    for name in filled.columns:
        mode = filled[name].mode()
        if len(mode):
            filled[name] = filled[name].fillna(mode[0])
    filled_skew = filled.skew()

    def plain(value):
        value = float(value)
        return None if math.isnan(value) else value

    return {
        "rows": len(table),
        "columns": [
            {
                "name": str(name),
                "missing": int(table[name].isna().sum()),
                "numeric": name in numbers.columns,
                **(
                    {
                        "mean": plain(numbers[name].mean()),
                        "std": plain(numbers[name].std()),
                        "min": plain(numbers[name].min()),
                        "max": plain(numbers[name].max()),
                        "skewness": plain(skew[name]),
                        "filled_skewness": plain(filled_skew[name]),
                    }
                    if name in numbers.columns
                    else {}
                ),
            }
            for name in table.columns
        ],
        "correlation": [[plain(v) for v in row] for row in numbers.corr().to_numpy()],
    }


def near(own, theirs, scale=1.0):
    if own is None or theirs is None:
        return own is theirs
    return abs(own - theirs) <= TOLERANCE * max(scale, 1.0, abs(theirs))


def compare(expected, summary):
    wrong = []
    if summary["rows"] != expected["rows"]:
        wrong.append(f"rows: {summary['rows']}, pandas {expected['rows']}")
    names = [column["name"] for column in summary["columns"]]
    if names != [column["name"] for column in expected["columns"]]:
        wrong.append(f"names: {names}")
    for own, theirs in zip(summary["columns"], expected["columns"]):
        name = theirs["name"]
        if own["missing"] != theirs["missing"]:
            wrong.append(f"{name}: missing {own['missing']}, pandas {theirs['missing']}")
        if ("numbers" in own) != theirs["numeric"]:
            wrong.append(f"{name}: {own['kind']}, pandas: numeric is {theirs['numeric']}")
            continue
        for key in ("mean", "std", "min", "max", "skewness", "filled_skewness"):
            if not theirs["numeric"]:
                continue
            mine, yours = own["numbers"][key], theirs[key]
            if "skewness" in key and mine is None and yours in (None, 0.0):
                continue  # Equal numbers have the skewness 0 in older pandas, none in newer.
            if not near(mine, yours):
                wrong.append(f"{name}: {key} {mine}, pandas {yours}")
    for a, (own, theirs) in enumerate(zip(summary["correlation"]["values"], expected["correlation"])):
        for b, (mine, yours) in enumerate(zip(own, theirs)):
            if not near(mine, yours):
                wrong.append(f"correlation {a} {b}: {mine}, pandas {yours}")
    return wrong


def million(path):
    dice = random.Random(7)
    kinds = ["door", "yard", "gate", "hall", "前门"]
    with open(path, "w", newline="", encoding="utf-8") as file:
        file.write("a,b,c,d,e,f,g,h,kind,note\n")
        for n in range(1_000_000):
            x = dice.gauss(0, 1)
            missing = "" if n % 50 == 0 else f"{dice.expovariate(1):.4f}"
            file.write(
                f"{n},{x:.5f},{x + dice.gauss(0, 1):.5f},{dice.random():.6f},{missing},{int(dice.random() * 100)},"
                f"{dice.gauss(100, 15):.2f},{dice.random() ** 4:.6f},{dice.choice(kinds)},seen {int(dice.random() * 500)} times\n"
            )


def main(arguments):
    match arguments:
        case ["make", folder]:
            with open(f"{folder}/mixed.csv", "w", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows(make_rows())
            with open(f"{folder}/mixed.json", "w", encoding="utf-8") as file:
                json.dump(figures(f"{folder}/mixed.csv"), file, ensure_ascii=False, indent=1)
                file.write("\n")
        case ["figures", path]:
            print(json.dumps(figures(path), ensure_ascii=False))
        case ["compare", path, summary]:
            with open(summary, encoding="utf-8") as file:
                wrong = compare(figures(path), json.load(file))
            print("; ".join(wrong[:5]) or "equal to pandas' to 1e-9")
            return bool(wrong)
        case ["million", path]:
            million(path)
        case ["time", path]:
            import pandas  # Not in the figure.

            began = time.monotonic()
            figures(path)
            print(f"{time.monotonic() - began:.2f} s, pandas {pandas.__version__}")
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
