"""Compares native/reproduction/*.toml with the tables in a text of the paper (arXiv 2405.14325), such as a text recognition of its pages.

    python3 tests/peers/paper_tables.py paper.txt

Reads each table's lines again, independently of who typed the files, and compares every number. A text that holds the paper twice (in two
languages) is read twice. Tables A14 to A16 often lose their last column, Dinomaly's, in recognised text: then only their means are
compared, and in all tables by class the mean of the classes with the printed mean. Prints what differs; exit status 1 if a metric does.
Recognised text is known to swap the costs of ViT-Large in Table 4: 413.5 M parameters and 275.3 GMACs are right (they are computed, too).
Needs Python 3.11 and nothing else.
"""

import math
import re
import sys
import tomllib
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "native" / "reproduction"
HEADING = re.compile(r"^(?:Table|表)\s*(A?\d+)\s*[.。]")
NUMBER = re.compile(r"^\d+(?:\.\d*)?$")


def sections(text):
    """Lines with tabs after each heading of a table, by the table's number; one list for each time that the heading occurs."""
    found, current = {}, None
    for line in text.splitlines():
        heading = HEADING.match(line)
        if heading:
            current = []
            found.setdefault(heading[1], []).append(current)
        elif "\t" in line and current is not None:
            current.append([re.sub(r"</?u>|\*\*", "", cell).strip() for cell in line.split("\t")])
        elif line.strip() and current:
            current = None
    return found


def numbers(cells):
    """The numbers of a line that stand in cells of their own, and those of cells such as 99.6/99.8/99.0; n/a is NaN."""
    values = []
    for cell in cells:
        cell = cell.replace(" ", "").split("±")[0].split("\\pm")[0].rstrip("GM")
        parts = [part for part in cell.split("/") if part] if cell != "n/a" else ["nan"]
        if cell == "n/a":
            values.append(math.nan)
        elif parts and all(NUMBER.match(part) for part in parts):
            values.extend(float(part) for part in parts)
    return values


def of_table(number, lines, table):
    """Rows of numbers in the order of the file's rows, with as many numbers as each has metrics."""
    metrics = table.get("metrics", list(range(7)))
    width = len(metrics)
    if re.fullmatch(r"A1[4-9]", number):
        rows = []
        for cells in lines:
            packed = [numbers([cell]) for cell in cells if "/" in cell and not re.search(r"[A-Za-z]", cell)]
            if len(packed) >= 6 or (len(cells) > 2 and len(packed) == 1):
                rows.append(packed)
        return rows
    rows = [numbers(cells) for cells in lines]
    if number == "A10":
        # The paper has its first row again, at the head of the second half.
        rows = [row for i, row in enumerate(rows) if row not in rows[:i]]
    if number in ("2", "A11"):
        blocks = 3 if number == "2" else 2
        rows = [row[-3 * blocks:] for row in rows if len(row) >= 3 * blocks]
        return [row[3 * block : 3 * block + 3] for block in range(blocks) for row in rows]
    return [row[-width:] for row in rows if len(row) >= width]


def same(a, b):
    return (math.isnan(a) and math.isnan(b)) or abs(a - b) < 1e-9


def compare(number, table, lines):
    differences, compared = [], 0
    rows = table["rows"]
    read = of_table(number, lines, table)
    if re.fullmatch(r"A1[4-9]", number):
        # One line for a class; the last of seven packed cells is Dinomaly's.
        full = [packed for packed in read if len(packed) == 7]
        names = [row["name"] for row in rows]
        if number == "A19":
            names.insert(names.index("phone battery"), "phone battery")
        if len(full) != len(names):
            # The last column is lost: the mean alone stands in a line of its own.
            last = [packed for packed in read if len(packed) == 1]
            if len(last) != 1:
                return [f"{number}: {len(full)} rows read, {len(names)} expected"], 0
            full, names = [last[0]], ["Mean"]
        by_name = {row["name"]: row["published"] for row in rows}
        pairs = [(name, by_name[name], packed[-1]) for name, packed in zip(names, full)]
    else:
        if len(read) != len(rows):
            return [f"{number}: {len(read)} rows read, {len(rows)} expected"], 0
        pairs = [(row["name"], row["published"], values) for row, values in zip(rows, read)]
    for name, ours, theirs in pairs:
        if len(ours) != len(theirs):
            differences.append(f"{number}, {name}: {ours} in the file, {theirs} in the text")
            continue
        for a, b in zip(ours, theirs):
            compared += 1
            if not same(a, b):
                differences.append(f"{number}, {name}: {a} in the file, {b} in the text")
    return differences, compared


def costs(number, table, lines):
    """Parameters, GMACs and photos a second before the metrics of Tables 4, A2 and A11, and the deviations of Table A12."""
    rows = [numbers(cells) for cells in lines]
    width = {"4": 7, "A2": 7, "A11": 6}.get(number)
    if number == "A12":
        deviations = next((cells for cells in lines if cells[0].startswith("mean")), None)
        read = [float(re.split(r"±|\\pm", cell)[1]) for cell in deviations[1:]]
        expected = table["rows"][-1]["deviation"]
        return [] if read == expected else [f"A12: deviations {expected} in the file, {read} in the text"]
    if not width:
        return []
    rows = [row[:-width] for row in rows if len(row) > width]
    rows = rows * (len(table["rows"]) // max(1, len(rows)))
    found = []
    for row, read in zip(table["rows"], rows):
        given = [row[key] for key in ("parameters", "macs", "speed") if key in row]
        if given != read:
            found.append(f"{number}, {row['name']}: costs {given} in the file, {read} in the text")
    return found


def means(number, table):
    classes = [row["published"] for row in table["rows"] if "class" in row]
    printed = next(row["published"] for row in table["rows"] if row["name"] == "Mean")
    for metric, expected in zip(zip(*classes), printed):
        mean = sum(metric) / len(metric)
        # Both are rounded to a tenth.
        if abs(mean - expected) > 0.1001:
            yield f"{number}: the mean of the classes is {mean:.2f}, printed is {expected}"


def main():
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    found = sections(text)
    failed = 0
    for path in sorted(FOLDER.glob("*.toml")):
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        if "rows" not in table or not re.fullmatch(r"A?\d+", path.stem):
            continue
        problems = list(means(path.stem, table)) if re.fullmatch(r"A1[4-9]", path.stem) else []
        readings = [compare(path.stem, table, lines) for lines in found.get(path.stem, [])]
        complete = max(found.get(path.stem, [[]]), key=len)
        for line in costs(path.stem, table, complete):
            print(f"  costs: {line}")
        clean = [compared for differences, compared in readings if not differences and compared]
        print(f"{path.stem}: {len(table['rows'])} rows, readings {len(readings)}, numbers compared {clean}")
        if not clean:
            problems += [line for differences, _ in readings for line in differences] or [f"{path.stem}: not in the text"]
        else:
            for differences, _ in readings:
                for line in differences:
                    print(f"  another reading of the text: {line}")
        for line in problems:
            print(f"  DIFFERS {line}")
        failed += bool(problems)
    sys.exit(1 if failed else 0)


main()
