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

# COVIDx: exactly one of three; the binary lists (V9B) have one label.
COVIDX = ("normal", "pneumonia", "COVID-19")
COVIDX_BINARY = ("COVID-19",)

MEANING = {
    "chestxray14": "1 = the radiology report names the finding (text mining), 0 = it does not",
    "chexpert": "1 = the report affirms the finding, 0 = it denies it (valid.csv: three radiologists)",
    "mimic": "1 = the report of the study affirms the finding, 0 = it denies it",
    "covidx": "1 = the class of the image; exactly one class is 1 (binary lists: 1 = COVID-19 positive)",
}
