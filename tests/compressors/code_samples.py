"""A source in each language that the code compressor reads, with what it should find there."""

from __future__ import annotations

PYTHON = '''\
"""Orders."""
import json
from pathlib import Path

LIMIT = {"a": 1,
         "b": 2}


class Shop:
    """A shop."""

    name = "corner"

    @staticmethod
    def price(item, *,
              tax=0.2):
        """The price
with tax, on (odd lines
        """
        base = item["price"]
        # a comment (with a bracket
        if base < 0:
            raise ValueError(f"negative: {base}")
        elif base == 0:
            return 0
        else:
            total = base * (1 + tax)
        return total

    async def load(self, path): return json.loads(
        path.read_text())


def total(items):
    return sum(Shop.price(i) for i in items)


def report(items):
    found = []
    for item in items:
        try:
            value = Shop.price(item)
        except (KeyError,
    ValueError):
            continue
        finally:
            print("seen")
        match value:
            case 0:
                found.append("free")
            case _:
                found.append(str(value))
        text = """
def not_a_function():
    return (
"""
        found.append(text)
    head = "Report"; width = max(len(f) for f in found)

    lines = [head,
  "-" * width]
    lines += found
    return "\\n".join(lines)
'''
JAVASCRIPT = """\
import { readFile } from "fs";
const LIMITS = {
  small: 1,
  large: [2, 3],
};

export async function load(path) {
  const text = await readFile(path, `utf8 } ${path}`);
  if (text.match(/[}"']/)) {
    throw new Error("no } here");
  }
  const parsed = JSON.parse(text)
    .filter((x) => {
      return x > 0
    })

  return parsed
}

const twice = (x) => {
  // a comment with }
  const y = x + x
  return y
}

class Shop extends Base {
  constructor(name) {
    super()
    this.name = name
  }

  price(item, tax = 0.2) {
    let total = item.price
    for (const part of item.parts) {
      total += part.price
    }

    switch (item.kind) {
      case "gift":
        total = 0
        break
      default:
        total *= 1 + tax
    }
    return total
  }
}
"""
JAVA = """\
package shop;

import java.util.List;

@Service
public class Shop extends Base implements Store {
    private final List<String> names = List.of("a", "b");
    private static final char QUOTE = '"';

    @Override
    public double price(Item item,
                        double tax) throws ShopException {
        double total = item.price();
        for (Part part : item.parts()) {
            total += part.price();
        }

        if (total < 0) {
            throw new ShopException("negative {");
        } else {
            total *= 1 + tax;
        }
        return total;
    }

    interface Named {
        String name();
    }

    int count() { return names.size(); }
}
"""
CSHARP = """\
using System;

namespace Shop
{
    public class Store : Base
    {
        public string Name { get; set; }

        [Obsolete("no } more")]
        public decimal Price(Item item, decimal tax)
        {
            var path = @"c:\\";
            decimal total = item.Price;
            foreach (var part in item.Parts)
            {
                total += part.Price;
            }

            if (total < 0)
            {
                throw new Exception("negative");
            }
            else
            {
                total *= 1 + tax;
            }
            return total;
        }
    }
}
"""
CPP = """\
#include <vector>
#define MIN(a, b) \\
    ((a) < (b) ? (a) : (b))

namespace shop {

struct Item {
    double price;
    int count;
};

template <typename T>
class Store : public Base {
public:
    explicit Store(int size) : size_(size) {}

    double price(const Item& item, double tax) const override {
        double total = item.price;
        char brace = '{';
        for (int i = 0; i < item.count; ++i) {
            total += 1'000.0;
        }

        if (total < 0) {
            throw std::runtime_error("negative }");
        }
        return total * (1 + tax);
    }

private:
    int size_;
};

static int values[] = {
    1, 2,
    3,
};

int Store<int>::count() {
    return MIN(size_, 3);
}

}  // namespace shop
"""
GO = """\
package shop

import (
	"errors"
	"fmt"
)

type Store struct {
	Name string
	Size int
}

var limits = map[string]int{
	"small": 1,
	"large": 2,
}

func (s *Store) Price(item Item, tax float64) (float64, error) {
	total := item.Price
	for _, part := range item.Parts {
		total += part.Price
	}

	if total < 0 {
		return 0, errors.New("negative }")
	} else if total == 0 {
		fmt.Println(`free {`)
	}
	switch item.Kind {
	case "gift":
		total = 0
	default:
		total *= 1 + tax
	}
	return total, nil
}

func Count(s *Store) int {
	return s.Size
}
"""
RUST = """\
use std::collections::HashMap;

#[derive(Debug, Clone)]
pub struct Store<'a> {
    name: &'a str,
    sizes: HashMap<String, u32>,
}

impl<'a> Store<'a> {
    pub fn price(&self, item: &Item, tax: f64) -> Result<f64, String> {
        let mut total = item.price;
        for part in &item.parts {
            total += part.price;
        }

        let text = r#"a "raw" } string"#;
        if total < 0.0 {
            return Err(format!("negative: {}", text));
        }
        let kind = match item.kind {
            Kind::Gift => 0.0,
            Kind::Other => {
                total * 2.0
            }
        };
        let open = '{';
        Ok(total * (1.0 + tax) + kind)
    }
}

fn count(store: &Store) -> usize {
    store.sizes.len()
}
"""
RUBY = """\
require 'json'

module Shop
  class Store < Base
    attr_reader :name

    def initialize(name)
      @name = name
    end

    def price(item, tax = 0.2)
      total = item.price
      item.parts.each do |part|
        total += part.price
      end

      if total < 0
        raise ArgumentError, "negative #{total} end"
      else
        total *= 1 + tax
      end
      text = <<~TEXT
        def not_a_method
        (
      TEXT
      puts text
      total
    end

    def self.count; 3; end
  end
end
"""
PHP = """\
<?php
namespace Shop;

use Shop\\Base;

class Store extends Base
{
    private array $names = [
        "a",
        "b",
    ];

    public function price(Item $item, float $tax = 0.2): float
    {
        $total = $item->price;
        foreach ($item->parts as $part) {
            $total += $part->price; // it's } fine
        }

        if ($total < 0) {
            throw new \\Exception('negative }');
        } elseif ($total === 0) {
            echo "free";
        }
        return $total * (1 + $tax);
    }
}

function count_all($stores)
{
    return count($stores);
}
"""
SAMPLES = {
    "python": (PYTHON, ["price", "load", "total", "report"], ["Shop"]),
    "javascript": (JAVASCRIPT, ["load", "twice", "constructor", "price"], ["Shop"]),
    "java": (JAVA, ["price", "count"], ["Shop", "Named"]),
    "csharp": (CSHARP, ["Price"], ["Shop", "Store"]),
    "cpp": (CPP, ["Store", "price", "count"], ["shop", "Item", "Store"]),
    "go": (GO, ["Price", "Count"], []),
    "rust": (RUST, ["price", "count"], []),
    "ruby": (RUBY, ["initialize", "price", "count"], ["Shop", "Store"]),
    "php": (PHP, ["price", "count_all"], ["Store"]),
}
"""Each: the source, its functions in order, its classes in order (those that are said to have a name)."""
