"""The ROS 2 node around a PI0 policy."""

import pkgutil

# The messages are generated into a second folder of this package's name: `pi0_ttnn_ros.msg` must be found there also
# when the source tree comes first on the path.
__path__ = pkgutil.extend_path(__path__, __name__)
