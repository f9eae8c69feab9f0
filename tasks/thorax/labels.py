"""The labels of the public chest X-ray sets, in the order of their papers."""

# ChestX-ray14, order of the official code and split files (Wang et al. 2017; thorax MAE, section 4).
CHESTXRAY14 = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
BOX_SPELLING = {"Infiltrate": "Infiltration"}  # BBox_List_2017.csv against Data_Entry_2017.csv

# CheXpert: the five that the papers score, in their order, and the fourteen columns of the table.
CHEXPERT = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
CHEXPERT14 = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)

# MIMIC-CXR-JPG: the same names by the alphabet; "No Finding" is the absence of the others, no label.
MIMIC = tuple(sorted(name for name in CHEXPERT14 if name != "No Finding"))

# COVIDx: classes of a list to its labels. Exactly one of three (of four in the first version) is 1; lists of two
# classes (V6, ...B, severity) have one label, which names the second class.
COVIDX = ("normal", "pneumonia", "COVID-19")
COVIDX_LABELS = {
    COVIDX: COVIDX,
    ("negative", "positive"): ("COVID-19",),
    ("level1", "level2"): ("level2",),
    ("normal", "bacteria", "viral", "COVID-19"): ("normal", "bacteria", "viral", "COVID-19"),
}

# VinDr-CXR (Nguyen et al. 2022, table 2): 22 findings that have boxes, then the 6 diagnoses of the whole image; "No
# finding" is the absence of the others, no label. The test table writes "Other disease".
VINDR_LOCAL = (
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Clavicle fracture",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Enlarged PA",
    "ILD",
    "Infiltration",
    "Lung Opacity",
    "Lung cavity",
    "Lung cyst",
    "Mediastinal shift",
    "Nodule/Mass",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
    "Rib fracture",
    "Other lesion",
)
VINDR = (*VINDR_LOCAL, "COPD", "Lung tumor", "Pneumonia", "Tuberculosis", "Other diseases")
# The 14 findings of VinBigData's competition on the same images.
VINBIGDATA = (
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Consolidation",
    "ILD",
    "Infiltration",
    "Lung Opacity",
    "Nodule/Mass",
    "Other lesion",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
)

# RSNA pneumonia challenge: one label, or the three classes of the detailed table.
RSNA = ("Lung Opacity",)
RSNA_CLASSES = ("Lung Opacity", "No Lung Opacity / Not Normal", "Normal")

MEANING = {
    "chestxray14": "1 = the radiology report names the finding (text mining), 0 = it does not",
    "chexpert": "1 = the report affirms the finding, 0 = it denies it (valid.csv: three radiologists)",
    "mimic": "1 = the report of the study affirms the finding, 0 = it denies it",
    "chexpert_plus": "1 = the report affirms the finding, 0 = it denies it (CheXbert)",
    "vindr": "1 = radiologists see the finding (train: three, joined; test: their consensus), 0 = they do not",
    "rsna": "1 = an opacity that radiologists suspect to be pneumonia (it has a box), 0 = none",
    "padchest": "1 = the report names the finding (physicians' labels or a network's), 0 = it does not",
    "covidx": "1 = the class of the image; exactly one class is 1 (two classes: 1 = the class that names the label)",
}
