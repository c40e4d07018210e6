"""A web app that answers at once and does the long work afterwards, in the same process.

python examples/web.py [PORT]

curl -i -X POST localhost:8000/tasks -d '{"below": 5000000}'      202, and where to look
curl localhost:8000/tasks/1                                       status, progress, time so far, result
curl -X DELETE localhost:8000/tasks/1                             cancel it
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from schedfactory import Job, Scheduler, current_job

scheduler = Scheduler("web.db")


@scheduler.task(name="web.count_primes")
def count_primes(below: int) -> int:
    job = current_job()
    found = 0
    for number in range(2, below):
        if number % 1000 == 0:
            job.raise_if_cancelled()
            job.set_progress(number / below, f"{found} so far")
        found += all(number % divisor for divisor in range(2, int(number**0.5) + 1))
    return found


async def post_task(request: Request) -> JSONResponse:
    try:
        arguments = await request.json()
        job = await run_in_threadpool(count_primes.enqueue, **arguments)
    except (TypeError, ValueError) as error:  # no JSON, or arguments that the task does not take
        raise HTTPException(422, str(error)) from error
    url = str(request.url_for("task", id=job.id))
    return JSONResponse(described(job, url), 202, {"Location": url})


def get_task(request: Request) -> JSONResponse:  # not async, so Starlette runs it in a thread
    return JSONResponse(described(found(request), str(request.url)))


def delete_task(request: Request) -> JSONResponse:
    return JSONResponse(described(found(request).cancel(), str(request.url)))


def found(request: Request) -> Job[Any]:
    job = scheduler.get(request.path_params["id"])
    if job is None:
        raise HTTPException(404, "no such task")
    return job


def described(job: Job[Any], url: str) -> dict[str, Any]:
    return {
        "id": job.id,
        "url": url,
        "status": job.status,
        "progress": job.progress,
        "message": job.progress_message,
        "seconds": job.run_time and job.run_time.total_seconds(),
        "result": job.result,
        "error": job.error,
    }


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    await run_in_threadpool(scheduler.start, workers=2)
    yield
    await run_in_threadpool(scheduler.stop, timeout="1s")  # what has not ended by then starts again with the next process


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/tasks", post_task, methods=["POST"]),
        Route("/tasks/{id:int}", get_task, name="task"),
        Route("/tasks/{id:int}", delete_task, methods=["DELETE"]),
    ],
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
