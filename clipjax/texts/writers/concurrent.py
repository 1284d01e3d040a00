"""Ask many questions at once, in bounded memory: threads take one each, answers come back as they are ready."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator

from clipjax.texts.question import Answer, Question


def answers_from_threads(
    ask: Callable[[Question], Answer], questions: Iterable[Question], threads: int, stop: threading.Event
) -> Iterator[Answer]:
    """Yield the answers of `ask` in the order in which they come.

    At most `threads` questions are under way and as many answers wait. What `ask` raises is raised
    here, once the answers before it have been yielded. When the iterator is closed, `stop` is set: an `ask`
    that looks at it ends early, and what it answers is dropped.
    """
    source, taking = iter(questions), threading.Lock()
    done: queue.Queue[Answer | BaseException | None] = queue.Queue(threads)

    def put(item: Answer | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return done.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            while not stop.is_set():
                with taking:
                    question = next(source, None)
                if question is None:
                    break
                put(ask(question))
        except BaseException as error:
            put(error)
        put(None)

    # daemons: a request that hangs must not keep the program from ending
    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        left = threads
        while left:
            item = done.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                left -= 1
            else:
                yield item
    finally:
        stop.set()
