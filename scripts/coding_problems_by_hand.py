"""The harder and more varied built-in coding problems, written by hand: rows 40: of problems.jsonl."""

from __future__ import annotations

import ast
from dataclasses import dataclass


@dataclass(frozen=True)
class ByHand:
    """A problem with its natural division of labour."""

    level: int
    """2 or 3; the family's problems have 1."""
    prompt: str
    aux: str
    main: str
    tests: tuple[str, ...]

    @property
    def entry_point(self) -> str:
        return next(node.name for node in ast.parse(self.prompt).body if isinstance(node, ast.FunctionDef))


def _problem(level: int, prompt: str, aux: str, main: str, tests: str) -> ByHand:
    asserts = tuple(f"assert candidate{line}" for line in tests.strip().split("\n"))
    return ByHand(level, prompt.lstrip("\n"), aux.lstrip("\n"), main.lstrip("\n"), asserts)


PROBLEMS: tuple[ByHand, ...] = (
    _problem(
        2,
        '''
def anagram_groups(words):
    """Return the groups of words that are anagrams of each other, upper and lower case alike.

    Only groups of two or more words count. Words keep their order, and groups that of their first words.

    >>> anagram_groups(["tea", "dog", "Eat", "god", "cat"])
    [['tea', 'Eat'], ['dog', 'god']]
    """
''',
        """
def aux(word):
    return "".join(sorted(word.lower()))
""",
        """
def anagram_groups(words):
    groups = {}
    for word in words:
        groups.setdefault(aux(word), []).append(word)
    return [group for group in groups.values() if len(group) > 1]
""",
        """
(["tea", "dog", "Eat", "god", "cat"]) == [["tea", "Eat"], ["dog", "god"]]
(["abc", "def"]) == []
(["Listen", "silent", "enlist", "tinsel"]) == [["Listen", "silent", "enlist", "tinsel"]]
(["aab", "abb", "bab", "baa"]) == [["aab", "baa"], ["abb", "bab"]]
([]) == []
(["x", "x"]) == [["x", "x"]]
""",
    ),
    _problem(
        2,
        '''
def caesar(text, shift):
    """Shift every letter of text by `shift` places in the alphabet, around its end; case stays, other characters stay.

    >>> caesar("Hello, Zoe!", 3)
    'Khoor, Crh!'
    """
''',
        """
def aux(letter, shift):
    first = ord("A") if letter.isupper() else ord("a")
    return chr((ord(letter) - first + shift) % 26 + first)
""",
        """
def caesar(text, shift):
    return "".join(aux(c, shift) if c.isascii() and c.isalpha() else c for c in text)
""",
        """
("Hello, Zoe!", 3) == "Khoor, Crh!"
("abc", 0) == "abc"
("abc", -1) == "zab"
("xyz XYZ", 5) == "cde CDE"
("The end.", 26) == "The end."
("", 7) == ""
("1 + 1 = two", 13) == "1 + 1 = gjb"
""",
    ),
    _problem(
        2,
        '''
def run_lengths(text):
    """Write every run of equal characters as the character and the run's length; a run of one is the character alone.

    >>> run_lengths("aaabccd")
    'a3bc2d'
    """
''',
        """
def aux(text):
    runs = []
    for c in text:
        if runs and runs[-1][0] == c:
            runs[-1] += c
        else:
            runs.append(c)
    return runs
""",
        """
def run_lengths(text):
    return "".join(run[0] + (str(len(run)) if len(run) > 1 else "") for run in aux(text))
""",
        """
("aaabccd") == "a3bc2d"
("") == ""
("abc") == "abc"
("zzzzzzzzzzzz") == "z12"
("aabbaa") == "a2b2a2"
("  x") == " 2x"
""",
    ),
    _problem(
        2,
        '''
def repeated_words(text):
    """Return how often each word occurs that occurs more than once, in lower case.

    A word is a run of letters; digits and punctuation separate words.

    >>> repeated_words("The cat saw the dog. The dog ran.")
    {'the': 3, 'dog': 2}
    """
''',
        """
def aux(text):
    spaced = "".join(c.lower() if c.isalpha() else " " for c in text)
    return spaced.split()
""",
        """
def repeated_words(text):
    counts = {}
    for word in aux(text):
        counts[word] = counts.get(word, 0) + 1
    return {word: count for word, count in counts.items() if count > 1}
""",
        """
("The cat saw the dog. The dog ran.") == {"the": 3, "dog": 2}
("") == {}
("one two three") == {}
("a-b-a b2b") == {"a": 2, "b": 3}
("No, no, NO!") == {"no": 3}
("x y x y z") == {"x": 2, "y": 2}
""",
    ),
    _problem(
        2,
        '''
def widest_column(table):
    """Return the number (from 0) of the column of a table of texts whose longest text is longest; the first of several.

    All rows have equally many texts; a table without rows gives -1.

    >>> widest_column([["a", "bbb"], ["cc", "d"]])
    1
    """
''',
        """
def aux(table):
    return [list(column) for column in zip(*table)]
""",
        """
def widest_column(table):
    widths = [max(len(text) for text in column) for column in aux(table)]
    return widths.index(max(widths)) if widths else -1
""",
        """
([["a", "bbb"], ["cc", "d"]]) == 1
([]) == -1
([["x", "y", "z"]]) == 0
([["", "ab"], ["abcd", ""], ["", "abc"]]) == 0
([["1", "22", "333"], ["4444", "5", "6"], ["7", "88888", "9"]]) == 1
([["only"]]) == 0
""",
    ),
    _problem(
        2,
        '''
def is_magic_square(square):
    """Tell whether all rows, all columns and both diagonals of a square of numbers have the same sum.

    >>> is_magic_square([[2, 7, 6], [9, 5, 1], [4, 3, 8]])
    True
    """
''',
        """
def aux(square):
    n = len(square)
    rows = [sum(row) for row in square]
    columns = [sum(row[i] for row in square) for i in range(n)]
    diagonals = [sum(square[i][i] for i in range(n)), sum(square[i][n - 1 - i] for i in range(n))]
    return rows + columns + diagonals
""",
        """
def is_magic_square(square):
    sums = aux(square)
    return len(set(sums)) == 1
""",
        """
([[2, 7, 6], [9, 5, 1], [4, 3, 8]]) == True
([[1, 2], [3, 4]]) == False
([[5]]) == True
([[1, 1], [1, 1]]) == True
([[2, 7, 6], [9, 5, 1], [4, 8, 3]]) == False
([[1, 2], [2, 1]]) == False
""",
    ),
    _problem(
        2,
        '''
def days_between(first, second):
    """Return the number of days between two dates written YYYY-MM-DD, in either order (Gregorian calendar).

    >>> days_between("2024-02-28", "2024-03-01")
    2
    """
''',
        """
def aux(date):
    year, month, day = map(int, date.split("-"))
    lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    before = year - 1
    days = before * 365 + before // 4 - before // 100 + before // 400
    return days + sum(lengths[: month - 1]) + (leap and month > 2) + day
""",
        """
def days_between(first, second):
    return abs(aux(first) - aux(second))
""",
        """
("2024-02-28", "2024-03-01") == 2
("2023-02-28", "2023-03-01") == 1
("2000-01-01", "2000-01-01") == 0
("2001-01-01", "2000-01-01") == 366
("1900-02-28", "1900-03-01") == 1
("1999-12-31", "2000-01-01") == 1
("1970-01-01", "2026-07-04") == 20638
""",
    ),
    _problem(
        2,
        '''
def longest_palindrome_word(sentence):
    """Return the longest word of a sentence that reads the same backwards, case aside; the first of several, "" if there is none.

    Words are separated by spaces.

    >>> longest_palindrome_word("Anna saw a kayak at noon")
    'kayak'
    """
''',
        """
def aux(word):
    folded = word.lower()
    return folded == folded[::-1]
""",
        """
def longest_palindrome_word(sentence):
    best = ""
    for word in sentence.split():
        if aux(word) and len(word) > len(best):
            best = word
    return best
""",
        """
("Anna saw a kayak at noon") == "kayak"
("no such thing") == ""
("Noon Otto level") == "level"
("Otto noon") == "Otto"
("") == ""
("ab a") == "a"
""",
    ),
    _problem(
        2,
        '''
def is_balanced(text):
    """Tell whether the brackets (), [] and {} of a text close in the right order; everything else in it is ignored.

    >>> is_balanced("f(x[1]) + {y}")
    True
    >>> is_balanced("(]")
    False
    """
''',
        """
def aux(text):
    return [c for c in text if c in "()[]{}"]
""",
        """
def is_balanced(text):
    opening = {")": "(", "]": "[", "}": "{"}
    stack = []
    for c in aux(text):
        if c not in opening:
            stack.append(c)
        elif not stack or stack.pop() != opening[c]:
            return False
    return not stack
""",
        """
("f(x[1]) + {y}") == True
("(]") == False
("") == True
("((a)") == False
("a)") == False
("{[()()]}[]") == True
("([)]") == False
""",
    ),
    _problem(
        2,
        '''
def evaluate_rpn(expression):
    """Return the value of an expression in reverse Polish notation with whole numbers and + - * /; / rounds down.

    >>> evaluate_rpn("3 4 + 2 *")
    14
    """
''',
        """
def aux(sign, left, right):
    if sign == "+":
        return left + right
    if sign == "-":
        return left - right
    return left * right if sign == "*" else left // right
""",
        """
def evaluate_rpn(expression):
    stack = []
    for token in expression.split():
        if token in ("+", "-", "*", "/"):
            right, left = stack.pop(), stack.pop()
            stack.append(aux(token, left, right))
        else:
            stack.append(int(token))
    return stack[0]
""",
        """
("3 4 + 2 *") == 14
("7") == 7
("5 1 2 + 4 * + 3 -") == 14
("7 2 /") == 3
("-7 2 /") == -4
("2 3 4 * -") == -10
""",
    ),
    _problem(
        2,
        '''
def merge_intervals(intervals):
    """Merge intervals [start, end] that overlap or touch; return them by their start.

    >>> merge_intervals([[5, 8], [1, 3], [2, 4]])
    [[1, 4], [5, 8]]
    """
''',
        """
def aux(intervals):
    return sorted([list(interval) for interval in intervals])
""",
        """
def merge_intervals(intervals):
    merged = []
    for start, end in aux(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return merged
""",
        """
([[5, 8], [1, 3], [2, 4]]) == [[1, 4], [5, 8]]
([]) == []
([[1, 2], [2, 3], [3, 4]]) == [[1, 4]]
([[1, 10], [2, 3], [4, 5]]) == [[1, 10]]
([[7, 9], [-3, -1], [0, 2]]) == [[-3, -1], [0, 2], [7, 9]]
([[4, 4], [4, 4]]) == [[4, 4]]
""",
    ),
    _problem(
        2,
        '''
def parse_query(query):
    """Return the values of each key of a query such as "a=1&b=2&a=3", as lists in their order.

    A part without "=" has the value ""; empty parts are left out.

    >>> parse_query("a=1&b=2&a=3")
    {'a': ['1', '3'], 'b': ['2']}
    """
''',
        """
def aux(query):
    pairs = []
    for part in query.split("&"):
        if part:
            key, _, value = part.partition("=")
            pairs.append((key, value))
    return pairs
""",
        """
def parse_query(query):
    values = {}
    for key, value in aux(query):
        values.setdefault(key, []).append(value)
    return values
""",
        """
("a=1&b=2&a=3") == {"a": ["1", "3"], "b": ["2"]}
("") == {}
("flag&x=1") == {"flag": [""], "x": ["1"]}
("x=1&&x=2&") == {"x": ["1", "2"]}
("e=mc=2") == {"e": ["mc=2"]}
("a=&a=0") == {"a": ["", "0"]}
""",
    ),
    _problem(
        2,
        '''
def total_time(durations):
    """Add durations written h:mm:ss or m:ss and write the sum as h:mm:ss.

    >>> total_time(["1:30", "0:59:45"])
    '1:01:15'
    """
''',
        """
def aux(duration):
    seconds = 0
    for part in duration.split(":"):
        seconds = 60 * seconds + int(part)
    return seconds
""",
        """
def total_time(durations):
    total = sum(aux(duration) for duration in durations)
    minutes, seconds = divmod(total, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
""",
        """
(["1:30", "0:59:45"]) == "1:01:15"
([]) == "0:00:00"
(["0:59", "0:01"]) == "0:01:00"
(["10:00:00", "14:00:00"]) == "24:00:00"
(["2:03:04"]) == "2:03:04"
(["99:59", "0:01"]) == "1:40:00"
""",
    ),
    _problem(
        2,
        '''
def pascal_triangle(rows):
    """Return the first rows of Pascal's triangle.

    >>> pascal_triangle(4)
    [[1], [1, 1], [1, 2, 1], [1, 3, 3, 1]]
    """
''',
        """
def aux(row):
    return [left + right for left, right in zip([0, *row], [*row, 0])]
""",
        """
def pascal_triangle(rows):
    triangle = []
    for _ in range(rows):
        triangle.append(aux(triangle[-1]) if triangle else [1])
    return triangle
""",
        """
(4) == [[1], [1, 1], [1, 2, 1], [1, 3, 3, 1]]
(0) == []
(1) == [[1]]
(2) == [[1], [1, 1]]
(6)[5] == [1, 5, 10, 10, 5, 1]
(10)[9][4] == 126
""",
    ),
    _problem(
        3,
        '''
def add_romans(first, second):
    """Add two numbers written in Roman numerals and write the sum in Roman numerals (below 4000).

    >>> add_romans("XIV", "VI")
    'XX'
    """
''',
        """
def aux(numeral):
    values = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
    total = 0
    for i, letter in enumerate(numeral):
        smaller = i + 1 < len(numeral) and values[letter] < values[numeral[i + 1]]
        total += -values[letter] if smaller else values[letter]
    return total
""",
        """
def add_romans(first, second):
    left = aux(first) + aux(second)
    pieces = [(1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL")]
    pieces += [(10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]
    written = ""
    for value, letters in pieces:
        written += left // value * letters
        left %= value
    return written
""",
        """
("XIV", "VI") == "XX"
("I", "I") == "II"
("XLIV", "XLV") == "LXXXIX"
("MCMXCIX", "I") == "MM"
("CD", "D") == "CM"
("MMM", "CMXCIX") == "MMMCMXCIX"
("III", "I") == "IV"
""",
    ),
    _problem(
        3,
        '''
def shortest_path(edges, start, goal):
    """Return the number of edges on a shortest way from start to goal in an undirected graph, -1 if there is none.

    >>> shortest_path([["a", "b"], ["b", "c"], ["c", "d"], ["a", "d"]], "a", "c")
    2
    """
''',
        """
def aux(edges):
    neighbours = {}
    for left, right in edges:
        neighbours.setdefault(left, []).append(right)
        neighbours.setdefault(right, []).append(left)
    return neighbours
""",
        """
def shortest_path(edges, start, goal):
    neighbours = aux(edges)
    distance = {start: 0}
    waiting = [start]
    for node in waiting:
        for other in neighbours.get(node, []):
            if other not in distance:
                distance[other] = distance[node] + 1
                waiting.append(other)
    return distance.get(goal, -1)
""",
        """
([["a", "b"], ["b", "c"], ["c", "d"], ["a", "d"]], "a", "c") == 2
([], "a", "a") == 0
([["a", "b"]], "b", "a") == 1
([["a", "b"], ["c", "d"]], "a", "d") == -1
([[1, 2], [2, 3], [3, 4], [4, 5], [1, 5]], 1, 4) == 2
([[1, 2], [2, 3], [3, 1]], 1, 9) == -1
""",
    ),
    _problem(
        3,
        '''
def task_order(needs):
    """Return the tasks in an order in which every task comes after those it needs, always the alphabetically first one possible.

    needs maps each task to the list of tasks it needs. If there is no such order, return [].

    >>> task_order({"eat": ["cook"], "cook": ["shop"], "shop": []})
    ['shop', 'cook', 'eat']
    """
''',
        """
def aux(needs, done):
    ready = [task for task in needs if task not in done and all(need in done for need in needs[task])]
    return sorted(ready)
""",
        """
def task_order(needs):
    order = []
    while len(order) < len(needs):
        ready = aux(needs, order)
        if not ready:
            return []
        order.append(ready[0])
    return order
""",
        """
({"eat": ["cook"], "cook": ["shop"], "shop": []}) == ["shop", "cook", "eat"]
({}) == []
({"b": [], "a": []}) == ["a", "b"]
({"a": ["b"], "b": ["a"]}) == []
({"a": ["c"], "b": [], "c": ["b"]}) == ["b", "c", "a"]
({"d": ["a", "b"], "a": [], "b": ["a"], "c": []}) == ["a", "b", "c", "d"]
""",
    ),
    _problem(
        3,
        '''
def depth_sum(nested):
    """Add the numbers of a nested list, each times the depth it stands at; the outermost list has depth 1.

    >>> depth_sum([1, [2, [3]]])
    14
    """
''',
        """
def aux(nested, depth=1):
    found = []
    for item in nested:
        if isinstance(item, list):
            found += aux(item, depth + 1)
        else:
            found.append((item, depth))
    return found
""",
        """
def depth_sum(nested):
    return sum(number * depth for number, depth in aux(nested))
""",
        """
([1, [2, [3]]]) == 14
([]) == 0
([[[]]]) == 0
([4, 5]) == 9
([[1, 1], 2, [1, 1]]) == 10
([[[[-2]]], 3]) == -5
""",
    ),
    _problem(
        3,
        '''
def prime_digit_sums(limit):
    """Return the primes below limit whose digits add up to a prime, in ascending order.

    >>> prime_digit_sums(30)
    [2, 3, 5, 7, 11, 23, 29]
    """
''',
        """
def aux(number):
    if number < 2:
        return False
    divisor = 2
    while divisor * divisor <= number:
        if number % divisor == 0:
            return False
        divisor += 1
    return True
""",
        """
def prime_digit_sums(limit):
    return [n for n in range(limit) if aux(n) and aux(sum(map(int, str(n))))]
""",
        """
(30) == [2, 3, 5, 7, 11, 23, 29]
(0) == []
(3) == [2]
(12) == [2, 3, 5, 7, 11]
(70) == [2, 3, 5, 7, 11, 23, 29, 41, 43, 47, 61, 67]
(200)[-3:] == [193, 197, 199]
(100)[9] == 47
""",
    ),
    _problem(
        3,
        '''
def matrix_power(matrix, exponent):
    """Return a square matrix of whole numbers to the power of exponent (0 or more); the power 0 is the identity.

    >>> matrix_power([[1, 1], [1, 0]], 5)
    [[8, 5], [5, 3]]
    """
''',
        """
def aux(left, right):
    return [[sum(a * b for a, b in zip(row, column)) for column in zip(*right)] for row in left]
""",
        """
def matrix_power(matrix, exponent):
    size = len(matrix)
    result = [[int(i == j) for j in range(size)] for i in range(size)]
    for _ in range(exponent):
        result = aux(result, matrix)
    return result
""",
        """
([[1, 1], [1, 0]], 5) == [[8, 5], [5, 3]]
([[2, 0], [0, 3]], 0) == [[1, 0], [0, 1]]
([[7]], 3) == [[343]]
([[0, 1], [0, 0]], 2) == [[0, 0], [0, 0]]
([[1, 2], [3, 4]], 1) == [[1, 2], [3, 4]]
([[1, 1, 0], [0, 1, 1], [0, 0, 1]], 4) == [[1, 4, 6], [0, 1, 4], [0, 0, 1]]
""",
    ),
    _problem(
        3,
        '''
def largest_island(grid):
    """Return the number of cells of the largest island of a grid of rows of "#" (land) and "." (water).

    Cells of an island are connected by their sides.

    >>> largest_island(["##.", ".#.", "..#"])
    3
    """
''',
        """
def aux(grid, row, column, seen):
    inside = 0 <= row < len(grid) and 0 <= column < len(grid[row])
    if not inside or grid[row][column] != "#" or (row, column) in seen:
        return 0
    seen.add((row, column))
    around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
    return 1 + sum(aux(grid, r, c, seen) for r, c in around)
""",
        """
def largest_island(grid):
    seen = set()
    sizes = [aux(grid, r, c, seen) for r in range(len(grid)) for c in range(len(grid[r]))]
    return max(sizes, default=0)
""",
        """
(["##.", ".#.", "..#"]) == 3
([]) == 0
(["...", "..."]) == 0
(["#.#", ".#.", "#.#"]) == 1
(["####", "#..#", "####"]) == 10
(["#..##", "##..#", "....."]) == 3
""",
    ),
    _problem(
        3,
        '''
def next_generation(cells):
    """Return the living cells of Conway's game of life one step later, as a sorted list of [x, y].

    A living cell with two or three living neighbours (of eight) lives on; a dead one with three comes alive.

    >>> next_generation([[0, 1], [1, 1], [2, 1]])
    [[1, 0], [1, 1], [1, 2]]
    """
''',
        """
def aux(cells):
    counts = {}
    for x, y in cells:
        for dx in (-1, 0, 1):
            for dy in (-1, 0, 1):
                if dx or dy:
                    counts[x + dx, y + dy] = counts.get((x + dx, y + dy), 0) + 1
    return counts
""",
        """
def next_generation(cells):
    living = {(x, y) for x, y in cells}
    born = [list(cell) for cell, count in aux(cells).items() if count == 3 or (count == 2 and cell in living)]
    return sorted(born)
""",
        """
([[0, 1], [1, 1], [2, 1]]) == [[1, 0], [1, 1], [1, 2]]
([]) == []
([[5, 5]]) == []
([[0, 0], [0, 1], [1, 0], [1, 1]]) == [[0, 0], [0, 1], [1, 0], [1, 1]]
([[0, 0], [1, 0], [0, 1]]) == [[0, 0], [0, 1], [1, 0], [1, 1]]
([[1, 0], [2, 1], [0, 2], [1, 2], [2, 2]]) == [[0, 1], [1, 2], [1, 3], [2, 1], [2, 2]]
""",
    ),
    _problem(
        3,
        '''
def fewest_coins(amount, coins):
    """Return the coins, largest first, of the shortest way to pay an amount, [] if it cannot be paid or is 0.

    Of equally short ways the one with the larger coins first is returned.

    >>> fewest_coins(6, [1, 3, 4])
    [3, 3]
    """
''',
        """
def aux(amount, coins):
    fewest = [0] + [None] * amount
    for total in range(1, amount + 1):
        ways = [fewest[total - coin] for coin in coins if coin <= total and fewest[total - coin] is not None]
        fewest[total] = min(ways) + 1 if ways else None
    return fewest
""",
        """
def fewest_coins(amount, coins):
    fewest = aux(amount, coins)
    paid = []
    while amount and fewest[amount] is not None:
        for coin in sorted(coins, reverse=True):
            if coin <= amount and fewest[amount - coin] == fewest[amount] - 1:
                paid.append(coin)
                amount -= coin
                break
    return sorted(paid, reverse=True)
""",
        """
(6, [1, 3, 4]) == [3, 3]
(0, [1, 2]) == []
(7, [2, 4]) == []
(11, [1, 2, 5]) == [5, 5, 1]
(30, [25, 10, 1]) == [10, 10, 10]
(8, [1, 3, 4, 5]) == [5, 3]
(99, [50, 20, 10, 5, 2, 1]) == [50, 20, 20, 5, 2, 2]
""",
    ),
    _problem(
        3,
        '''
def spiral(matrix):
    """Return the numbers of a matrix clockwise from its top left corner, round by round to the middle.

    >>> spiral([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    [1, 2, 3, 6, 9, 8, 7, 4, 5]
    """
''',
        """
def aux(rows):
    return [list(column) for column in zip(*rows)][::-1]
""",
        """
def spiral(matrix):
    rows = [list(row) for row in matrix]
    walked = []
    while rows:
        walked += rows[0]
        rows = aux(rows[1:])
    return walked
""",
        """
([[1, 2, 3], [4, 5, 6], [7, 8, 9]]) == [1, 2, 3, 6, 9, 8, 7, 4, 5]
([]) == []
([[1]]) == [1]
([[1, 2], [3, 4]]) == [1, 2, 4, 3]
([[1, 2, 3, 4]]) == [1, 2, 3, 4]
([[1], [2], [3]]) == [1, 2, 3]
([[1, 2, 3], [4, 5, 6]]) == [1, 2, 3, 6, 5, 4]
""",
    ),
)
