"""``hyperforget app``: a page on which forgetting can be watched."""

import contextlib
import dataclasses
import errno
import ipaddress
import os
import socket
import sys

import jax

import hyperforget_jax as hf
from hyperforget_jax.data.cache import cache_folder

__all__ = ["App"]


@dataclasses.dataclass(frozen=True)
class App:
    """Show a page on which trained models forget, beside retrained ones.

    Draw a digit or choose one, switch classes off and on, choose the method. Runs until
    it is interrupted, and exits with 0, or with 2 if something lacks.
    """

    dataset: str = "digits"
    """digits, whose models are part of the package, or mnist, whose are to be made."""
    host: str = "127.0.0.1"
    """The address to listen at: of this machine alone, unless another is given."""
    port: int = 8765
    """The port; 0 takes a free one."""

    def run(self) -> int:
        """Load, prepare, serve, and return the exit code."""
        try:
            import uvicorn

            from hyperforget_jax.app import server
            from hyperforget_jax.app.forgetting import Forgetting
        except ModuleNotFoundError as error:
            raise RuntimeError(
                f"{error.name} is not installed: pip install 'hyperforget-jax[app]', "
                "or '.[app]' in a clone."
            ) from error
        if not 0 <= self.port < 65_536:
            raise ValueError(f"--port must lie in [0, 65535], got {self.port}.")
        made = hf.pretrained.load(self.dataset)
        with self._listen() as listening:
            place = jax.config.values["jax_compilation_cache_dir"]
            if not place:
                place = str(cache_folder() / "compiled")  # For the next start.
                jax.config.update("jax_compilation_cache_dir", place)
            is_first = not os.path.isdir(place)
            takes = ", which takes a minute the first time" if is_first else ""
            _say(f"Compiling every method{takes}.")
            application = server.make(Forgetting(made), self._hosts())
            host = f"[{self.host}]" if ":" in self.host else self.host
            _say(f"Open http://{host}:{listening.getsockname()[1]}/; Ctrl-C stops.")
            config = uvicorn.Config(application, log_level="warning", lifespan="off")
            with contextlib.suppress(KeyboardInterrupt):
                uvicorn.Server(config).run([listening])
        return 0

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            return socket.create_server((self.host, self.port), family=family)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise OSError(
                f"--port {self.port} is taken: --port 0 takes a free one."
            ) from error

    def _hosts(self) -> list[str]:
        """Return the names by which the page may be called.

        At every address of the machine (``0.0.0.0``, ``::``) that is by any name: pages
        of other sites can then reach it by a name of their own.
        """
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            return [self.host, "localhost"]
        if address.is_unspecified:
            return ["*"]
        own = f"[{address}]" if address.version == 6 else self.host
        return [own, "localhost", "127.0.0.1", "[::1]"]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()  # Who reads a pipe waits for it.
