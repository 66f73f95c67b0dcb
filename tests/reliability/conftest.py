import pytest
from harness import Server


@pytest.fixture(scope="session")
def server():
    server = Server()
    yield server
    server.stop()
