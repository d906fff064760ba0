"""What the machine can do, as a contender of train_peers.py: `rates.rates`, when it is asked."""

from orders import Orders, Stopwatch
from rates import rates


def main() -> None:
    orders = Orders()
    orders.answer(ready=True)
    while (order := orders.peek()) is not None:
        orders.take()
        watch = Stopwatch()
        orders.answer(rates=rates(order["batch"]), **watch.read())


if __name__ == "__main__":
    main()
