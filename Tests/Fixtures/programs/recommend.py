"""Ranks products that are bought together; a fixed number of rounds, so that each run does the same work.

Imports only a C module: each frame of the profile is then in this file, not in the standard library.
"""

import zlib

WORDS = "apple bread candle drum engine fabric globe hammer island jacket kettle lamp".split()


def make_baskets(count):
    seed = 1
    for _ in range(count):
        basket = []
        for _ in range(4):
            seed = (seed * 1664525 + 1013904223) % 2**32
            basket.append(WORDS[(seed >> 8) % len(WORDS)])
        yield basket


def count_pairs(baskets):
    pairs = {}
    for basket in baskets:
        for first in basket:
            for second in basket:
                if first < second:
                    pairs[first, second] = pairs.get((first, second), 0) + 1
    return pairs


def merge_sort(items, key):
    if len(items) < 2:
        return items
    middle = len(items) // 2
    return merge(merge_sort(items[:middle], key), merge_sort(items[middle:], key), key)


def merge(left, right, key):
    merged = []
    i = j = 0
    while i < len(left) and j < len(right):
        if key(left[i]) <= key(right[j]):
            merged.append(left[i])
            i += 1
        else:
            merged.append(right[j])
            j += 1
    return merged + left[i:] + right[j:]


def fingerprint(basket):
    return zlib.crc32(" ".join(basket).encode())


def recommend(baskets):
    pairs = count_pairs(baskets)
    by_count = merge_sort(list(pairs), pairs.get)
    by_fingerprint = merge_sort(baskets, fingerprint)
    return by_count, by_fingerprint


def main():
    baskets = list(make_baskets(1_000))
    for _ in range(240):
        recommend(baskets)


if __name__ == "__main__":
    main()
