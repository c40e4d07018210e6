import sys

from benchmarks.peers.run import main as beside_the_peers
from benchmarks.run import main

if __name__ == "__main__":
    if sys.argv[1:2] == ["peers"]:
        beside_the_peers(sys.argv[2:])
    else:
        main()
