import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.CRC32;

/** Two named threads sort and check a stock list; a fixed number of rounds, so that each run does the same work. */
public final class Warehouse {
    record Item(String name, int shelf, int weight) {}

    public static void main(String[] arguments) throws InterruptedException {
        List<Item> stock = makeStock(50_000);
        Thread picker = new Thread(() -> pickAll(stock, 140), "picker");
        Thread auditor = new Thread(() -> auditAll(stock, 140), "auditor");
        picker.start();
        auditor.start();
        picker.join();
        auditor.join();
    }

    static List<Item> makeStock(int count) {
        int seed = 1;
        List<Item> stock = new ArrayList<>(count);
        for (int i = 0; i < count; i++) {
            seed = seed * 1664525 + 1013904223;
            stock.add(new Item("item-" + (seed >>> 12), (seed >>> 8) % 100, (seed >>> 16) % 1000));
        }
        return stock;
    }

    static void pickAll(List<Item> stock, int rounds) {
        for (int round = 0; round < rounds; round++) {
            List<Item> route = new ArrayList<>(stock);
            route.sort(Comparator.comparingInt(Item::shelf).thenComparing(Item::name));
            groupByShelf(route);
        }
    }

    static Map<Integer, List<Item>> groupByShelf(List<Item> route) {
        Map<Integer, List<Item>> shelves = new HashMap<>();
        for (Item item : route) {
            shelves.computeIfAbsent(item.shelf(), shelf -> new ArrayList<>()).add(item);
        }
        return shelves;
    }

    static void auditAll(List<Item> stock, int rounds) {
        long previous = 0;
        for (int round = 0; round < rounds; round++) {
            previous = audit(stock, previous);
        }
    }

    static long audit(List<Item> stock, long previous) {
        CRC32 sum = new CRC32();
        for (Item item : stock) {
            sum.update(describe(item, previous).getBytes());
        }
        return sum.getValue();
    }

    static String describe(Item item, long previous) {
        return item.name() + ':' + item.weight() + ':' + Long.toHexString(previous);
    }
}
